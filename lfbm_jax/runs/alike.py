"""Which runs are alike: what a figure depends on besides the seed.

Figures are averaged over runs that agree in all of this and in the number of iterations that the
model had learned for. Left out is only what cannot change a figure at a given iteration:

- the seed;
- how long the run was to learn, since the iteration itself is compared;
- when it logs, draws, saves and what it evaluates; `train.ema_decay`, which changes nothing but
  the reports of averaged parameters, and these are not averaged over runs;
- `train.microbatch_size` and `deterministic`, which change rounding alone;
- where files lie, `data.dir` included where the data set's name says what it holds; images of your
  own are known by their place alone;
- settings of tasks other than those that measured the figures: those of inference in evaluation
  for samples, those of FID where no task measures it.

`train.steps_per_call` stays: SRI searches its step size between calls.
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
KNOWN_BY_PLACE = ("image_folder", "npz", "huggingface")  # sources of any images
MEASURE_FID = {"generate", "inpaint"}
# Of a report's setup; the number of images that were scored stands among its figures.
FACTS = ("split", "range", "fid_reference", "score_sigma", "timed_on")


def settings(config: Mapping[str, Any], reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the figures of some reports of a run depend on.

    Args:
        config: of the run, as `workdir.read_config` returns it.
        reports: those that the figures are of.

    Returns:
        Dotted settings, and what the reports say of the images, as "reconstruct num_images".
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
        # How many images a task was to score is said by how many it scored.
        and not (key.startswith("task.") and key.endswith(".num_images"))
    }
    for report in reports:
        task, setup = report["task"], report["setup"]
        found |= {f"{task} {fact}": setup[fact] for fact in FACTS if fact in setup}
        if task != "generate" and "num_images" in report["figures"]:
            found[f"{task} num_images"] = report["figures"]["num_images"]
    return found
