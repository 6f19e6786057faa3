"""Selects the settings, besides the seed, that the figures of a run depend on.

Runs are alike if they agree in these settings. Figures are averaged over runs that are alike and
were measured at the same iteration. Only settings that cannot change a figure at a given iteration
are ignored:

- the seed;
- the configured length of training, because the iteration itself is compared;
- when the run logs, draws and saves, and what it evaluates; `train.ema_decay` too, because it
  changes only the reports of averaged parameters, which are not averaged over runs;
- `train.microbatch_size` and `deterministic`, which change rounding only;
- the locations of files. `data.dir` is ignored if the data set's name says what it holds, but a
  user's own images are identified by their folder alone;
- settings of tasks that did not measure the figures. Settings of inference in evaluation do not
  affect samples, and those of FID matter only to tasks that measure FID.

`train.steps_per_call` counts, because SRI searches its step size between calls.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lfbm_jax.runs.workdir import flat

IGNORED = (
    "seed",
    "tasks",
    "deterministic",
    "data.cache_dir",
    "data.manual_dir",
    "metrics.inception_weights",
    "train.checkpoint_every",
    "train.ema_decay",
    "train.log_every",
    "train.microbatch_size",
    "train.num_epochs",
    "train.num_steps",
    "train.sample_every",
)
KNOWN_BY_PLACE = ("image_folder", "npz", "huggingface")  # sources that read any images
MEASURE_FID = {"generate", "inpaint"}
# Entries of a report's setup. The number of scored images is among the report's figures.
FACTS = ("split", "range", "fid_reference", "score_sigma", "timed_on")


def settings(config: Mapping[str, Any], reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that the figures in a run's reports depend on.

    Args:
        config: the run's config, as `workdir.read_config` returns it.
        reports: the reports that hold the figures. What they say they were measured with replaces
            what the config says now.

    Returns:
        The settings by dotted name, and facts from the reports such as "reconstruct num_images".
    """
    reports = list(reports)
    tasks = {report["task"] for report in reports}
    ignored = {*IGNORED, *(() if config["data"]["source"] in KNOWN_BY_PLACE else ("data.dir",))}
    of_others = tuple(f"task.{task}." for task in config["task"].keys() - tasks)
    of_others += () if tasks & MEASURE_FID else ("metrics.",)
    of_others += () if tasks - {"generate"} else ("eval_inference.",)
    of_others += () if tasks & {"inpaint", "recover"} else ("masked_inference.",)
    found = {
        key: value
        for key, value in flat(config).items()
        if key not in ignored
        and not key.startswith(of_others)
        and not _is_replaced(key)
    }
    now = dict(found)
    for report in reports:
        # Another command may have changed the config since the report was written.
        then = flat(report.get("measured_with", {}))
        found |= {key: value for key, value in then.items() if now.get(key, value) != value}
        task, setup = report["task"], report["setup"]
        found |= {f"{task} {fact}": setup[fact] for fact in FACTS if fact in setup}
        if task != "generate" and "num_images" in report["figures"]:
            found[f"{task} num_images"] = report["figures"]["num_images"]
    return found


def _is_replaced(key: str) -> bool:
    """Whether a report's number of measured images stands for this setting.

    The number of scored anomalies differs by class, so there the number asked for counts too.
    """
    asked = key.startswith("task.") and key.endswith(".num_images")
    return asked and key != "task.anomaly.num_images"
