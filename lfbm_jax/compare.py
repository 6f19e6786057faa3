"""Trains several models alike and puts their figures side by side.

    python -m lfbm_jax.compare --config=configs/digits.py --models=lfbm,lebm,abp

A model is a variant of the config, or several joined by "+" (`lebm+long_run`); `lfbm` is the config
itself. All models get its generator and see as many images.
"""

import json
import pathlib
import runpy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
from absl import flags
from matplotlib.figure import Figure
from ml_collections import config_flags
from PIL import Image

from lfbm_jax.costs.describe import describe
from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.images.cache import Cache
from lfbm_jax.runs import build, cli, configuration, evaluate, train, workdir
from lfbm_jax.runs.recorded import minutes_per_epoch
from lfbm_jax.trained.api import TrainedModel

# Table 1 of the paper: three priors, each with short-run and long-run chains and a network.
TABLE_1 = (
    ("lfbm", "long_run", "lfbm_vae")
    + ("lebm", "lebm+long_run", "lebm+inference=encoder")
    + ("abp", "abp+long_run", "vae")
)
# What every model gets from the plain config.
BUDGET = ("batch_size", "num_epochs", "num_steps")
PICTURES = ("samples", "reconstructions")
REPEATS = 5

# allow_override: one process, such as the tests, may import several commands.
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "an experiment, such as configs/svhn.py", allow_override=True
)
_MODELS = flags.DEFINE_list(
    "models", ["lfbm", "lebm", "abp"], "variants to compare, or table1: the nine of the paper's"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "where the runs live [runs/compare-<config name>]", allow_override=True
)


def main(_: Sequence[str]) -> None:
    configs = _configs()
    for config in configs.values():
        configuration.check(config)
        build.model(config)
    cli.set_precision()
    cli.keep_compiled_programs()
    path, _, _ = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    folder = pathlib.Path(_WORKDIR.value or f"runs/compare-{pathlib.Path(path).stem}")
    folders = {name: folder / name.replace("=", "-") for name in configs}
    results = {}
    for name, config in configs.items():
        print(f"model {name}, {len(results) + 1} of {len(configs)} ...", flush=True)
        results[name] = run_model(config, prepare(config.data), folders[name])
    paths = [folder / f"compare.{suffix}" for suffix in ("json", "md", "png")]
    paths[0].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    paths[1].write_text(table(results, _setting(_CONFIG.value)), encoding="utf-8")
    draw(folders).savefig(paths[2], bbox_inches="tight")
    print("\n".join(["done; look at", *(f"  {path}" for path in paths)]), flush=True)


def run_model(
    config: ml_collections.ConfigDict, data: Cache, folder: pathlib.Path
) -> dict[str, float]:
    """Trains and evaluates one model in its own work directory, unless that is done already.

    Returns:
        The figures of the tasks as `task/figure`, and `parameters`, `time/milliseconds_to_sample`
        and `time/milliseconds_to_infer` of a training batch, `time/minutes_an_epoch`.
    """
    path = folder / "figures.json"
    as_json = workdir.plain(config)
    if path.exists():
        done = json.loads(path.read_text(encoding="utf-8"))
        if done["config"] == as_json:
            print(f"done before: {path}", flush=True)
            return done["figures"]
    built = build.model(config)
    workdir.claim(folder, config)
    trained = train.train(config, built, data, folder)
    evaluate.evaluate(trained, data, folder)
    figures = _costs(trained, data, folder)
    for task in config.tasks:
        report = json.loads((folder / "reports" / f"{task}.json").read_text(encoding="utf-8"))
        figures |= {f"{task}/{name}": value for name, value in report["figures"].items()}
    # Written last and whole: a model without it is taken up again where it stopped.
    with atomic.replacing(path) as temporary:
        temporary.write_text(json.dumps({"config": as_json, "figures": figures}), encoding="utf-8")
    return figures


def table(results: dict[str, dict[str, float]], setting: str) -> str:
    """Markdown: a row for every figure, a column for every model."""
    names = list(dict.fromkeys(name for figures in results.values() for name in figures))
    rows = [["figure", *results], ["---"] * (len(results) + 1)]
    for name in names:
        values = (figures.get(name) for figures in results.values())
        rows.append([name, *("-" if value is None else f"{value:.6g}" for value in values)])
    lines = ["# Comparison", "", setting, ""]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", "![compare.png](compare.png)", ""])


def draw(folders: dict[str, pathlib.Path]) -> Figure:
    """A row for every model: its samples, and held-out images above their reconstructions."""
    figure = Figure(figsize=(10, 5 * len(folders)), layout="constrained")
    axes = figure.subplots(len(folders), len(PICTURES), squeeze=False)
    for row, (name, folder) in zip(axes, folders.items(), strict=True):
        for axis, kind in zip(row, PICTURES, strict=True):
            axis.imshow(Image.open(max((folder / kind).glob("*.png"))))
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{name}: {kind}")
    return figure


def _configs() -> dict[str, ml_collections.ConfigDict]:
    """The config of every model that --models names; UserError for one that is not known."""
    path, _, base = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    get_config = runpy.run_path(path)["get_config"]
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    names = [n for name in _MODELS.value for n in (TABLE_1 if name == "table1" else (name,))]
    if not names:
        raise UserError("--models is empty: name some, such as --models=lfbm,abp")
    return {name: _config_of(name, get_config, base, overrides) for name in names}


def _config_of(
    name: str,
    get_config: Callable[[str], ml_collections.ConfigDict],
    base: str,
    overrides: dict[str, Any],
) -> ml_collections.ConfigDict:
    own = [variant for variant in name.split("+") if variant != "lfbm"]
    try:
        config = get_config(",".join(filter(None, [base, *own])))
    except UserError as error:
        raise UserError(f"--models={name}: {error}") from error
    plain = _CONFIG.value
    config.generator = plain.generator
    config.train.update({key: plain.train[key] for key in BUDGET})
    try:
        config.update_from_flattened_dict(overrides)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--models={name}: an override does not fit it: {error}") from error
    return config


def _costs(trained: TrainedModel, data: Cache, folder: pathlib.Path) -> dict[str, float]:
    """Parameters and times; the calls that compile are not timed."""
    batch = trained.config.train.batch_size
    images = data.train.spread(batch)
    networks = describe(trained.config, trained.model)
    return {
        "parameters": sum(networks[n]["parameters"] for n in ("prior", "generator", "inference")),
        "time/milliseconds_to_sample": _milliseconds(lambda: trained.sample(batch, 0, batch)),
        "time/milliseconds_to_infer": _milliseconds(
            lambda: trained.infer(images, 0, batch, training_settings=True)
        ),
        "time/minutes_an_epoch": minutes_per_epoch(folder, batch),
    }


def _milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call after its first."""
    call()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def _setting(config: ml_collections.ConfigDict) -> str:
    """What all models have in common."""
    budget = ", ".join(f"train.{key} {config.train[key]}" for key in BUDGET)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return f"Data {config.data.name}, seed {config.seed}, {budget}; {device}; one run a model."


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    cli.run(main, _CONFIG, argv)


if __name__ == "__main__":
    run()
