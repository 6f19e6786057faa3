"""A user's mistake ends the command with one line and exit status 2, and leaves no checkpoints."""

import errno
import os

import pytest

from lfbm_jax.runs import cli

CASES = {
    "key": (["--config.train.num_step=3"], "num_step"),
    "config file": (["--config=configs/nothing.py"], "nothing.py"),
    "variant": (["--config=configs/digits.py:smok"], "did you mean 'smoke'"),
    "value": (["--config.train.batch_size=many"], "batch_size"),
    "batch size": (["--config.train.batch_size=0"], "train.batch_size=0: must be at least 1"),
    "precision": (["--config.precision=float23"], "did you mean 'float32'"),
    "prior": (["--config.prior.name=glo"], "did you mean 'glow'"),
    "left-over settings": (["--config.prior.name=gaussian"], ":prior=gaussian"),
    "source": (["--config.data.source=embeded"], "did you mean 'embedded'"),
    "task": (["--config.tasks=('generat',)"], "did you mean 'generate'"),
    "sigma": (["--config.model.sigma=0.0"], "model.sigma=0.0"),
    "layers": (["--config.data.image_size=9"], "generator.layers"),
    "excluded": (["--config.data.exclude_labels=(12,)"], "no label 12"),
    "mode": (["--mode=trian"], "mode"),
    "no run": (["--mode=sample"], "no run there"),
    "missing folder": (
        ["--config=configs/mnist.py", "--config.data.dir=/nowhere"],
        "/nowhere",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_status_2(case, run_python, tmp_path):
    arguments, expected = CASES[case]
    command = ["-m", "lfbm_jax.main", f"--workdir={tmp_path / 'run'}"]
    if not arguments[0].startswith("--config="):
        command.append("--config=configs/digits.py")
    done = run_python([*command, *arguments], check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1, done.stderr
    assert expected in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_full_disk_is_one_line(capsys):
    def main():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SystemExit) as ended:
        cli.run(main, None, ["program"])
    assert ended.value.code == 2
    message = "No space left on device; make room, then run the same command again"
    assert capsys.readouterr().err == f"error: {message}\n"
