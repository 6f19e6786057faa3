"""A disk that runs full while a checkpoint is written loses nothing that was there."""

import shutil
import subprocess
import sys

import pytest

PROGRAM = """
import pathlib, shutil, sys
import jax, numpy as np
from lfbm_jax import learning, model
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.errors import UserError
from tests.builders import experiment

config = experiment("digits", "smoke")
state = learning.init_state(config, model.build(config))
folder = pathlib.Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(state)
(folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - 20_000))
noise = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(size=leaf.shape), state)
later = state._replace(step=np.int32(1), moments=noise.moments)
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
    """On a file system of its own, of 9 MB, in a namespace where a user may mount one."""
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
