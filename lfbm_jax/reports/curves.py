"""Draws what training logged: one chart per question, as SVG that lies in a web page."""

import io
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from lfbm_jax.files.lines import whole_lines
from lfbm_jax.reports.meanings import OF_INFERENCE

INK = "#010203"  # Stands for the page's own text colour, whichever the reader prefers.
COLOURS = ("#3b8ed0", "#e0812f", "#3aa76d", "#c15cc9", "#c9a227")
SIZE = (4.6, 2.4)  # In inches of 72 points: about the width of a phone.
POINTS = 400  # Longer curves are drawn as means over neighbouring readings.
WIDE_RANGE = 30  # From this ratio of the largest to the smallest value on, the axis is logarithmic.
MARKED = 20  # Shorter curves also get a mark per reading.


class Chart(NamedTuple):
    """A chart.

    Attributes:
        title: what it shows.
        lines: name in metrics.jsonl -> the line's label.
    """

    title: str
    lines: dict[str, str]


class Series(NamedTuple):
    """The readings of one metric.

    Attributes:
        steps, values: in the order in which they were logged.
    """

    steps: list[int]
    values: list[float]


OF_OBJECTIVES = ("energy", "statistic", "discriminator")  # networks of objectives
INFERRED = "sample/inferred_log_p_z"  # Derived in `read`.
CHARTS = (
    Chart("Mean squared error of reconstructions, training images", {"train/mse": "MSE"}),
    Chart("Loss of the generator per image", {"train/loss_generator": "loss"}),
    Chart("Loss of the prior per image", {"train/loss_prior": "loss"}),
    Chart(
        "log p(z) in nats: the prior should meet the inferred z",
        {
            "sample/log_p_z": "samples of the prior",
            INFERRED: "inferred, training images",
            "prior_fit/inferred_log_p_z": "inferred, images of the tasks",
        },
    ),
    Chart(
        "log p(x, z) and the bound of log p(x), in nats per image",
        {"train/log_joint": "log p(x, z)", "train/elbo": "lower bound"},
    ),
    Chart("Length of the inferred z", {"train/norm_z": "‖z‖"}),
    Chart(
        "Gradients in z at the end of the chain, norms",
        {
            "train/grad_norm_log_prior": "prior",
            "train/grad_norm_log_likelihood": "likelihood",
        },
    ),
    Chart(
        "Gradients of the parameters, norms",
        {
            "train/grad_norm_prior": "prior (alpha)",
            "train/grad_norm_generator": "generator (beta)",
            "train/grad_norm_inference": "inference (phi)",
            **{f"train/grad_norm_{name}": name for name in OF_OBJECTIVES},
        },
    ),
    Chart(
        "Learning rates",
        {
            "train/learning_rate_prior": "prior",
            "train/learning_rate_generator": "generator",
            "train/learning_rate_inference": "inference",
            **{f"train/learning_rate_{name}": name for name in OF_OBJECTIVES},
        },
    ),
    Chart("Squared MMD between inferred and sampled z", {"prior_fit/mmd": "MMD²"}),
    Chart("Learned sigma", {"train/sigma": "sigma"}),
    Chart("Half the squared length of z (RAE)", {"train/loss_latent": "loss"}),
    Chart("Regulariser of the generator (RAE)", {"train/loss_regularizer": "loss"}),
    *(
        Chart(each.words[0].upper() + each.words[1:], {f"train/{name}": name})
        for name, each in OF_INFERENCE.items()
        if name not in ("norm_z", "grad_norm_log_prior", "grad_norm_log_likelihood")
    ),
    Chart(
        "Energy of images",
        {"train/energy": "training images", "train/energy_of_samples": "samples"},
    ),
    Chart("Loss of the energy", {"train/loss_energy": "loss"}),
    Chart("Slope of the energy in the image, norm", {"train/energy_slope": "norm"}),
    Chart("Information between z and image, lower bound", {"train/information": "bound"}),
    Chart("Loss of the encoder", {"train/loss_encoder": "loss"}),
    Chart("Loss of the discriminator", {"train/loss_discriminator": "loss"}),
    Chart("Images per second", {"time/images_per_second": "images per second"}),
)
# The first two are the horizontal axis; the others are drawn in another form.
NOT_DRAWN = ("step", "epoch", "sample/mismatch", "prior_fit/sampled_log_p_z")


def read(workdir: pathlib.Path) -> dict[str, Series]:
    """Reads metrics.jsonl, except a last line that is not finished; {} if there is no file."""
    found: dict[str, Series] = {}
    for line in whole_lines(workdir / "metrics.jsonl"):
        figures = json.loads(line)
        if "sample/mismatch" in figures:
            figures[INFERRED] = figures["sample/log_p_z"] - figures["sample/mismatch"]
        for name, value in figures.items():
            series = found.setdefault(name, Series([], []))
            series.steps.append(figures["step"])
            series.values.append(value)
    return found


def charts(metrics: Mapping[str, Series]) -> Iterator[Chart]:
    """Yields the charts of what was logged; a metric that no chart knows gets its own."""
    known = {name for chart in CHARTS for name in chart.lines}
    unknown = [name for name in metrics if name not in {*known, *NOT_DRAWN}]
    for chart in (*CHARTS, *(Chart(name, {name: name}) for name in unknown)):
        lines = {name: label for name, label in chart.lines.items() if name in metrics}
        if lines:
            yield chart._replace(lines=lines)


def draw(chart: Chart, metrics: Mapping[str, Series]) -> str:
    """Draws a chart as an <svg> element that takes its text colour from the page."""
    import matplotlib  # Slow to import.
    from matplotlib.figure import Figure
    from matplotlib.rcsetup import cycler
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": chart.title,
        "font.size": 9,
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(style):  # type: ignore[arg-type]  # Its names are literals there.
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for name, label in chart.lines.items():
            steps, values = _thinned(metrics[name])
            axes.plot(steps, values, label=label, marker="." if len(steps) <= MARKED else "")
        every = [value for name in chart.lines for value in metrics[name].values]
        if min(every) > 0 and max(every) > WIDE_RANGE * min(every):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("iterations")
        axes.grid(alpha=0.2, color=INK)
        if len(chart.lines) > 1:
            figure.legend(loc="outside upper left", ncols=2, frameon=False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue())


def _thinned(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values; means over neighbours if there are more than POINTS readings."""
    count = min(POINTS, len(series.steps))
    steps, values = (
        np.array([np.mean(part) for part in np.array_split(np.asarray(each, float), count)])
        for each in series
    )
    return steps, values


def _inline(svg: str) -> str:
    """Makes an SVG file an element of a page.

    Names of groups are dropped, as several charts would share them, and so is what only a file
    needs.
    """
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<g) id="[^"]*"', "", svg).strip()
