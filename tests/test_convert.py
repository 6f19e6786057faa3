"""The command that converts a checkpoint of the authors: its output and its mistakes."""

import json

import numpy as np
import pytest
from absl.testing import flagsaver

from lfbm_jax import convert
from lfbm_jax.runs import cli, given
from tests import pytorch_writer
from tests.authors_networks import SIZES, made_up


def test_command_line(run_python, tmp_path):
    """Converts a checkpoint and samples from it without flags for its sizes."""
    pytorch_writer.save(tmp_path / "checkpoint.pth", made_up(*SIZES["svhn"]))
    run = tmp_path / "run"
    command = ["-m", "lfbm_jax.convert", tmp_path / "checkpoint.pth", "--config=configs/svhn.py"]
    done = run_python([*command, f"--workdir={run}"])
    assert "latent dimension 6, 3 flow steps of width 5, 32 x 32 images" in done.stdout
    assert json.loads((run / "config.json").read_text())["model"]["latent_dim"] == 6
    run_python(["-m", "lfbm_jax.main", "--mode=sample", "--num=3", f"--workdir={run}"])
    assert np.load(run / "samples.npy").shape == (3, 32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/svhn.py", "--workdir=run"], "CKPT.pth is missing"),
        (["checkpoint.pth", "--config=configs/svhn.py"], "--workdir is missing"),
        (["checkpoint.pth", "more.pth", "--config=configs/svhn.py"], "'more.pth' is not a flag"),
        (["checkpoint.pth", "--workdir=run"], "--config is missing"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(convert.main, given.config, ["convert", *arguments], arguments=("CKPT.pth",))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
