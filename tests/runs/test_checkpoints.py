"""No fault of a disk or file loses a checkpoint; checkpoints of earlier releases stay readable."""

import collections
import errno
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import lfbm_jax
from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build, workdir
from lfbm_jax.runs.checkpoints import Checkpoints
from tests import trial

TESTS = pathlib.Path(__file__).parents[1]
FROZEN = sorted(path.parent for path in TESTS.glob("frozen/*/config.json"))

PROGRAM = """
import pathlib, shutil, sys
import jax, numpy as np
from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build
from lfbm_jax.runs.checkpoints import Checkpoints
from tests.builders import experiment

config = experiment("digits", "smoke")
state = learning.init_state(config, build.model(config))
folder = pathlib.Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(state)
(folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - 20_000))
noise = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(size=leaf.shape), state)
later = state._replace(step=np.int32(1), opt_state=noise.opt_state)
try:
    checkpoints.save(later)
except UserError as error:
    print(error)
(folder / "filler").unlink()
anew = Checkpoints(folder)
print("left:", anew.steps(), int(anew.restore(state).step))
anew.save(later)
print("then:", anew.steps())
"""


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(
    tmp_path, python_environment, repo
):
    """The test mounts its own file system of 9 MB in a user namespace."""
    mount = f"mount -t tmpfs -o size=9m tmpfs {tmp_path}"
    namespace = ["unshare", "-Urm", "sh", "-c"]
    allowed = shutil.which("unshare") and (
        subprocess.run([*namespace, mount], capture_output=True, check=False).returncode == 0
    )
    if not allowed:
        pytest.skip("needs the right to mount a file system in a user namespace")
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$0" -c "$1" {tmp_path}', sys.executable, PROGRAM],
        cwd=repo,
        env=python_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot write a checkpoint to" in done.stdout, done.stdout + done.stderr
    assert "free some space" in done.stdout
    assert "left: [0] 0" in done.stdout
    assert "then: [0, 1]" in done.stdout


@pytest.fixture(scope="module")
def state():
    config = trial.config_of(pathlib.Path("run"))
    return jax.device_get(learning.init_state(config, build.model(config)))


@pytest.fixture
def run(state, tmp_path):
    """A work directory with checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(state._replace(step=np.int32(step)))
    checkpoints.close()
    return tmp_path


def restore(run, template, step=None):
    """Restores as training does, and sets aside the checkpoints after the restored step."""
    checkpoints = Checkpoints(run)
    try:
        restored = checkpoints.restore(template, step)
        checkpoints.set_aside_after(int(restored.step))
        return restored, checkpoints.steps()
    finally:
        checkpoints.close()


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Files that the kernel refuses to read, with errors that are no sign of damage: unmapped memory
# (EIO) for what Python reads, and a link to itself (ELOOP) for what the array library reads.
@pytest.mark.parametrize(
    ("file", "target", "message"),
    (
        ("state/_METADATA", "/proc/self/mem", "Input/output error"),
        ("checksum/metadata", "/proc/self/mem", "Input/output error"),
        ("state/manifest.ocdbt", "manifest.ocdbt", "symbolic links"),
    ),
)
def test_a_file_that_the_system_does_not_read_is_no_damage(run, state, file, target, message):
    path = run / "checkpoints" / "2" / file
    path.rename(run / "aside")
    path.symlink_to(target)
    before = contents(run / "checkpoints" / "1")
    with pytest.raises(UserError, match=r"checkpoint 2 .*cannot be read at present") as refused:
        restore(run, state)
    assert message in str(refused.value.__cause__)
    assert trial.steps(run) == [1, 2] and contents(run / "checkpoints" / "1") == before
    path.unlink()
    (run / "aside").rename(path)
    restored, steps = restore(run, state)
    assert (int(restored.step), steps) == (2, [1, 2])


PASSING = (
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.EIO, "Input/output error"),
    MemoryError(),
    # as the array library words them
    ValueError("RESOURCE_EXHAUSTED: Error reading: Cannot allocate memory"),
    ValueError("DATA_LOSS: Error reading: Stale file handle [os_error_code='116']"),
)


@pytest.mark.parametrize("error", PASSING, ids=str)
@pytest.mark.parametrize("method", ("restore", "item_metadata"))
def test_a_fault_that_passes_changes_nothing(run, state, error, method, monkeypatch):
    def fail(*_, **__):
        raise error

    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, method, fail)
        with pytest.raises(UserError, match=r"checkpoint 2 .*nothing was changed") as refused:
            restore(run, state)
    assert "\n" not in str(refused.value)
    assert contents(run) == before
    assert restore(run, state)[1] == [1, 2]


def test_an_error_of_another_kind_is_neither_hidden_nor_damage(run, state, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("can't start new thread")

    before = contents(run)
    monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        restore(run, state)
    assert contents(run) == before


def test_damaged_checkpoints_are_moved_and_kept(run, state, capsys):
    """Twice in a row: the second damaged checkpoint does not replace the first."""
    kept = []
    for name in ("2", "2-2"):
        (path,) = (run / "checkpoints" / "2" / "state").glob("manifest.ocdbt")
        path.write_bytes(path.read_bytes()[:-5])
        kept.append(contents(run / "checkpoints" / "2"))
        restored, steps = restore(run, state)
        assert (int(restored.step), steps) == (1, [1])
        output = capsys.readouterr().out
        assert "warning: checkpoint 2 is damaged" in output
        assert f"checkpoint 2 is kept in {run / 'set_aside' / name}\n" in output
        checkpoints = Checkpoints(run)
        checkpoints.save(state._replace(step=np.int32(2)))
        checkpoints.close()
    assert [contents(run / "set_aside" / name) for name in ("2", "2-2")] == kept
    assert restore(run, state)[1] == [1, 2]


def test_a_checkpoint_is_replaced_or_stays(run, state):
    """By a state of the same step; what it was is kept, and back in its place after a failure."""
    before = contents(run / "checkpoints" / "2")
    second = state._replace(step=np.int32(2))
    parameters = state.parameters
    not_finite = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), parameters.beta)
    checkpoints = Checkpoints(run)
    with pytest.raises(FloatingPointError):
        checkpoints.replace(second._replace(parameters=parameters._replace(beta=not_finite)))
    assert contents(run / "checkpoints" / "2") == before and checkpoints.steps() == [1, 2]
    other = parameters._replace(beta=jax.tree.map(lambda leaf: leaf + 1, parameters.beta))
    checkpoints.replace(second._replace(parameters=other))
    checkpoints.close()
    restored, steps = restore(run, state)
    assert steps == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, restored.parameters.beta, other.beta)
    assert contents(run / "set_aside" / "2") == before


def test_a_damaged_checkpoint_that_was_asked_for_is_named(run, state):
    shutil.rmtree(run / "checkpoints" / "1" / "state")
    with pytest.raises(UserError, match=r"checkpoint 1 is damaged .*choose another --step"):
        restore(run, state, 1)
    assert int(restore(run, state)[0].step) == 2
    shutil.rmtree(run / "checkpoints" / "2" / "state")
    with pytest.raises(UserError, match=r"none of the checkpoints .* can be read"):
        restore(run, state)
    assert trial.steps(run) == [1, 2]


def test_a_release_with_one_more_field_reads_the_checkpoints_before_it(run, state):
    """If the new field is not empty, the error names it and calls nothing damaged."""
    later = collections.namedtuple("Later", ("critic", *state._fields))
    restored, _ = restore(run, later(critic=None, **state._asdict()))
    jax.tree.map(np.testing.assert_array_equal, restored.parameters, state.parameters)
    needed = later(critic={"bias": np.zeros(3, np.float32)}, **state._asdict())
    with pytest.raises(UserError, match=r"critic\.bias is absent there, float32 \[3\] here"):
        restore(run, needed)
    assert trial.steps(run) == [1, 2]


def test_a_float64_checkpoint_is_not_cut_to_float32(run, state):
    bias = np.zeros_like(state.parameters.beta["layer_0"]["bias"], np.float64)
    layer = state.parameters.beta["layer_0"] | {"bias": bias}
    beta = state.parameters.beta | {"layer_0": layer}
    template = state._replace(parameters=state.parameters._replace(beta=beta))
    message = r"layer_0\.bias is float32 \[4\] there, float64 \[4\] here"
    with pytest.raises(UserError, match=message):
        restore(run, template)


def test_a_checkpoint_of_two_devices_is_sampled_on_one(tmp_path, run_python):
    run_python(
        f"""
        import jax, pathlib
        from lfbm_jax import learning
        from lfbm_jax.devices import sharding
        from lfbm_jax.runs import build, workdir
        from lfbm_jax.runs.checkpoints import Checkpoints
        from tests import trial
        assert jax.device_count() == 2
        run = pathlib.Path({str(tmp_path)!r})
        config = trial.config_of(run)
        workdir.claim(run, config)
        state = sharding.replicate(learning.init_state(config, build.model(config)))
        assert len(state.step.sharding.device_set) == 2
        Checkpoints(run).save(state)
        """,
        devices=2,
    )
    assert jax.device_count() == 1
    _, images = lfbm_jax.load(tmp_path).sample(3)
    assert images.shape == (3, 8, 8, 1) and np.isfinite(images).all()


def test_there_are_frozen_checkpoints():
    assert len(FROZEN) >= 2


@pytest.mark.parametrize("folder", FROZEN, ids=lambda path: path.name)
def test_checkpoints_of_earlier_releases_are_read(folder):
    """Images agree to 100 float32 roundings: three layers, each with sums of up to 64 products."""
    trained = lfbm_jax.load(folder)
    expected = json.loads((folder / "expected.json").read_text())
    z = np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)
    assert trained.step == expected["step"] and trained.averaged is not None
    tolerance = 100 * np.finfo(np.float32).eps
    images = trained.decode(z)
    np.testing.assert_allclose(images.mean((1, 2, 3)), expected["image_means"], atol=tolerance)
    np.testing.assert_allclose(images[:, 0, :, 0], expected["first_pixels"], atol=tolerance)
    np.testing.assert_allclose(trained.log_prior(z), expected["log_prior"], rtol=tolerance)


@pytest.mark.parametrize("folder", FROZEN, ids=lambda path: path.name)
def test_optimizers_of_earlier_releases_are_read(folder):
    """Whose arrays had other names: of all groups but the absent one Adam's moments are there."""
    state = trial.state_as(workdir.load_config(folder), folder)
    for name, optimizer in state.opt_state.groups().items():
        assert optimizer["adam"].count == 2
        moments = optimizer["adam"].mu, optimizer["adam"].nu
        assert all(np.any(leaf) for leaf in jax.tree.leaves(moments))
        assert bool(jax.tree.leaves(moments)) == (name != "inference")
