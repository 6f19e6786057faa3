"""Trains several models on the same budget and tabulates their figures side by side.

    python -m lfbm_jax.compare --config=configs/digits.py --models=lfbm,lebm,abp

A model is a variant of the config, or several joined by "+" (`lebm+long_run`); `lfbm` is the config
itself. All models share its generator and see the same number of images.
"""

import json
import pathlib
from collections.abc import Iterator

import ml_collections
from absl import flags
from matplotlib.figure import Figure
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.reports import markdown, meanings, numbers, overview, page
from lfbm_jax.runs import cli, config_files, given, grid, recorded

# Table 1 of the paper: three priors, each with short-run chains, long-run chains and a network.
TABLE_1 = (
    ("lfbm", "long_run", "lfbm_vae")
    + ("lebm", "lebm+long_run", "lebm+inference=encoder")
    + ("abp", "abp+long_run", "vae")
)
# Settings of `train` that every model takes from the plain config.
BUDGET = ("batch_size", "num_epochs", "num_steps")
PICTURES = ("samples", "reconstructions")

_MODELS = flags.DEFINE_list(
    "models", ["lfbm", "lebm", "abp"], "variants to compare; table1: the nine models of Table 1"
)
flags.adopt_module_key_flags(grid)


def main(config: ml_collections.ConfigDict) -> None:
    root = given.workdir(f"runs/compare-{pathlib.Path(given.config_file()[0]).stem}")

    def write(done: list[grid.Run]) -> list[pathlib.Path]:
        results = {run.name: run.figures() or {} for run in done}
        folders = {run.name: run.folder for run in done}
        paths = [root / f"compare.{suffix}" for suffix in ("json", "md", "png")]
        paths[0].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        setting = _setting(config, done)
        paths[1].write_text(table(results, setting), encoding="utf-8")
        draw(folders).savefig(paths[2], bbox_inches="tight")
        body = [page.picture(paths[2], "samples and reconstructions"), *sections(results)]
        return [*paths, overview.write(root, "Comparison", setting, body, folders)]

    grid.complete(plan(config, _MODELS.value, root), write, with_costs=True)


def plan(
    config: ml_collections.ConfigDict, models: list[str], root: pathlib.Path
) -> list[grid.Run]:
    """The runs of all models; raises UserError for an unknown model."""
    names = [n for name in models for n in (TABLE_1 if name == "table1" else (name,))]
    if not names:
        raise UserError("--models is empty: name some, such as --models=lfbm,abp")
    return [
        grid.Run(name, _config_of(name, config), root / name.replace("=", "-"))
        for name in dict.fromkeys(names)
    ]


def table(results: dict[str, dict[str, float | None]], setting: str) -> str:
    """Markdown with one row per figure and one column per model."""
    cells = [[name, *_row(name, results)] for name in _names(results)]
    lines = ["# Comparison", "", setting, "", *markdown.table(["figure", *results], cells)]
    return "\n".join([*lines, "", "![compare.png](compare.png)", ""])


def sections(results: dict[str, dict[str, float | None]]) -> Iterator[str]:
    """Yields the elements of the page: a table per task, with the figures in words."""
    tables: dict[str, list[list[str]]] = {}
    for name in _names(results):
        report, _, figure = name.partition("/")
        if not figure or report == "time":
            report, figure = "costs", name
        row = [meanings.cell(figure), *_row(name, results)]
        tables.setdefault(report, []).append(row)
    for report in sorted(tables, key=meanings.place):
        yield page.heading(meanings.heading(report))
        yield page.table(["figure", *results], tables[report])


def _names(results: dict[str, dict[str, float | None]]) -> list[str]:
    """The figures of all models."""
    return list(dict.fromkeys(name for figures in results.values() for name in figures))


def _row(name: str, results: dict[str, dict[str, float | None]]) -> list[str]:
    values = (figures.get(name) for figures in results.values())
    return ["-" if value is None else numbers.shown(value) for value in values]


def draw(folders: dict[str, pathlib.Path]) -> Figure:
    """One row per model: its samples, and images above their reconstructions.

    A model without a picture, whose prior overflowed, has an empty panel.
    """
    figure = Figure(figsize=(10, 5 * len(folders)), layout="constrained")
    axes = figure.subplots(len(folders), len(PICTURES), squeeze=False)
    for row, (name, folder) in zip(axes, folders.items(), strict=True):
        for axis, kind in zip(row, PICTURES, strict=True):
            newest = max((folder / kind).glob("*.png"), default=None)
            if newest:
                axis.imshow(Image.open(newest))
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{name}: {kind}")
    return figure


def _config_of(name: str, plain: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config of a model, whose generator and budget are those of the `plain` config."""
    path, variants = given.config_file()
    own = [variant for variant in name.split("+") if variant != "lfbm"]
    try:
        config = config_files.get_config(f"{path}:{','.join(filter(None, [variants, *own]))}")
    except UserError as error:
        raise UserError(f"--models={name}: {error}") from error
    config.generator = plain.generator
    config.train.update({key: plain.train[key] for key in BUDGET})
    try:
        config.update_from_flattened_dict(given.overrides())
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--models={name}: an override does not fit the model: {error}") from error
    return config


def _setting(config: ml_collections.ConfigDict, runs: list[grid.Run]) -> str:
    """One sentence: the settings that all models share, and the devices that evaluated them."""
    budget = ", ".join(f"train.{key} {config.train[key]}" for key in BUDGET)
    reports = (recorded.read_run(run.folder).reports.values() for run in runs)
    devices = sorted({report["setup"].get("device", "-") for found in reports for report in found})
    place = f"; {', '.join(devices)}" if devices else ""
    return f"Data {config.data.name}, seed {config.seed}, {budget}{place}; one run per model."


if __name__ == "__main__":
    cli.run(main, given.config)
