"""Tables and plots of sweeps, from figures written here."""

import csv

import numpy as np
import pytest
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.reports import ablation
from tests.builders import small_config

FIGURE = "reconstruct.mse"
POINTS = [{"inference.num_steps": k, "inference.step_size": s} for k in (1, 2) for s in (0.1, 0.2)]


@pytest.fixture
def runs():
    """Two seeds of four points; one run of the last point failed."""
    return [
        (
            settings,
            seed,
            None
            if (number, seed) == (3, 1)
            else {"generate/mse": -1.0, "reconstruct/mse": number + 0.5 * seed},
        )
        for number, settings in enumerate(POINTS)
        for seed in (0, 1)
    ]


def test_table_and_plot(runs, tmp_path):
    rows = ablation.collect(runs, FIGURE)
    assert [row.settings for row in rows] == POINTS
    assert [row.mean for row in rows] == [0.25, 1.25, 2.25, 3.0]
    stddev = float(np.std([0, 0.5], ddof=1))
    assert [row.stddev for row in rows] == pytest.approx([stddev] * 3 + [np.nan], nan_ok=True)
    with ablation.write_table(rows, FIGURE, tmp_path).open() as file:
        head, *lines = csv.reader(file)
    assert head[:3] == ["inference.num_steps", "inference.step_size", "mean reconstruct.mse"]
    assert lines[1] == ["1", "0.2", "1.25", str(stddev), "1.0", "1.5"]
    assert lines[3][-1] == "nan"
    picture = np.asarray(Image.open(ablation.draw(rows, FIGURE, tmp_path)).convert("RGB"))
    # The first two of matplotlib's colours: a curve for each step size.
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert np.sum(np.all(picture == colour, axis=-1)) > 100


def test_words_and_points_without_any_report(runs, tmp_path):
    named = [({"precision": word}, 0, runs[i][2]) for i, word in enumerate(("float32", "bfloat16"))]
    missing = ({"precision": "tensorfloat32"}, 0, None)
    rows = ablation.collect([*named, missing], FIGURE)
    assert np.isnan(rows[2].mean)
    assert ablation.draw(rows, FIGURE, tmp_path).stat().st_size > 1000


def test_a_figure_that_is_not_there(runs):
    with pytest.raises(UserError, match=r"have only generate\.mse, reconstruct\.mse"):
        ablation.collect(runs, "reconstruct.fid")
    config = small_config()
    for figure in ("mse", "anomaly.auprc", "reconstruct_averaged.mse"):
        with pytest.raises(UserError, match=f"--figure={figure}"):
            ablation.check(figure, config)
    config.train.ema_decay = 0.9
    ablation.check("reconstruct_averaged.mse", config)
