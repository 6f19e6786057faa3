"""The commands for many runs give the same results in one process and in several."""

import json

import numpy as np
import pytest

COMMANDS = {
    "compare": ["--config=configs/digits.py:smoke", "--models=lfbm,prior=gaussian+vae"],
    "anomaly": ["--config=configs/mnist_anomaly.py:smoke", "--digits=0,1"],
    "sweep": ["--config=configs/digits.py:smoke", "--grid=inference.num_steps=1,2"],
}
RESULTS = {"compare": "compare.json", "anomaly": "tables.md", "sweep": "reconstruct.mse.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_processes_give_the_figures_of_one_process(name, run_python, tmp_path):
    found = []
    for jobs in (0, 2):
        root = tmp_path / str(jobs)
        command = ["-m", f"lfbm_jax.{name}", f"--workdir={root}", f"--jobs={jobs}"]
        done = run_python(
            [*command, *COMMANDS[name], f"--config.data.cache_dir={tmp_path / 'cache'}"]
        )
        assert str(root / RESULTS[name]) in done.stdout
        assert (root / RESULTS[name]).stat().st_size
        logs = list(root.glob("**/log.txt"))
        assert len(logs) == jobs
        found.append(
            {
                str(path.parent.relative_to(root)): json.loads(path.read_text())
                for path in sorted(root.glob("**/figures.json"))
            }
        )
    here, apart = found
    assert here.keys() == apart.keys() and len(here) == 2
    for folder, own in here.items():
        other = apart[folder]
        assert own["config"] == other["config"]
        assert own["figures"].keys() == other["figures"].keys()
        for figure, value in own["figures"].items():
            if "time/" not in figure:
                assert np.isfinite(value)
                assert value == other["figures"][figure], f"{folder} {figure}"
