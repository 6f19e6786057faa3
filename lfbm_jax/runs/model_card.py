"""The model card of an exported model, in the form that Hugging Face's hub shows."""

import json
from typing import Any

from lfbm_jax.reports import index, markdown
from lfbm_jax.runs.exported import AVERAGE
from lfbm_jax.runs.recorded import Run
from lfbm_jax.runs.workdir import flat
from lfbm_jax.trained.api import TrainedModel

TAGS = ("lfbm", "jax", "flax", "image-generation", "latent-variable-model")
# Prefixes of the settings that say what the model is and how it learned.
SETTINGS = (
    "data.image_size", "data.exclude_labels", "data.num_train", "data.mask", "model.", "prior.",
    "generator.", "inference.", "eval_inference.", "objective.", "train.batch_size",
    "optimizer.generator.learning_rate", "optimizer.prior.learning_rate", "train.ema_decay",
    "precision", "seed",
)  # fmt: skip
LOADING = '''```python
import lfbm_jax

model = lfbm_jax.load("FOLDER")  # this folder, or "hf://OWNER/NAME" for a repository of the hub
z, images = model.sample(16, seed=0)  # images [16, {side}, {side}, {channels}] in [-1, 1]
reconstructions = model.reconstruct(images)
```'''


def text(run: Run, model: TrainedModel, kind: str) -> str:
    """Returns the card.

    The header has no licence, because no run records one. Figures are those of the reports on
    these parameters: of this step, and of the moving average if that is what the model has.

    Args:
        run: the run's config and reports.
        model: the exported model.
        kind: what its parameters are, `exported.LAST` or `exported.AVERAGE`.
    """
    data, side = model.config.data, model.config.data.image_size
    return "\n".join(
        [
            *_header(run),
            f"# {run.method} on {run.data}",
            "",
            "A generative model of images: a prior of a latent vector z, and a generator that turns"
            " z into an image. Made with lfbm_jax, which implements LFBM (*A Tale of Two Latent"
            " Flows*, AAAI 2023).",
            "",
            f"- trained on: {run.data}; images: {side} x {side} x {data.channels}",
            f"- prior: {model.config.prior.name}; generator: {model.config.generator.name};"
            f" inference in training: {model.config.inference.name}",
            f"- training iterations: {model.step:,}; parameters: {kind}",
            "- licence of these weights: not recorded; add `license` to the header when you"
            " publish them, and consider the terms of the training images",
            "",
            "## Loading it",
            "",
            LOADING.format(side=side, channels=data.channels),
            "",
            "## Setting",
            "",
            "`config.json` has every setting. The main ones:",
            "",
            *markdown.table(("setting", "value"), _settings(run.config)),
            "",
            "## Figures",
            "",
            *_figures(run, model.step, kind),
        ]
    )


def _header(run: Run) -> list[str]:
    """The lines of the YAML header. A JSON string is a YAML string too."""
    data = run.config["data"]
    lines = ["---", "library_name: lfbm_jax", "pipeline_tag: unconditional-image-generation"]
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    if data["source"] == "huggingface" and not data["dir"]:
        owner_and_name = "/".join(data["name"].partition("@")[0].split("/")[:2])
        lines += ["datasets:", f"- {json.dumps(owner_and_name)}"]
    return [*lines, "---", ""]


def _settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"`{key}`", f"`{json.dumps(value)}`")
        for key, value in sorted(flat(config).items())
        if key.startswith(SETTINGS)
    ]


def _figures(run: Run, step: int, kind: str) -> list[str]:
    """The figures of the reports on the exported parameters, each report with its setting."""
    lines = []
    for name, report in run.reports.items():
        if name.endswith("_averaged") != (kind == AVERAGE) or report["step"] != step:
            continue
        lines += [f"### {name}", "", *index.table(report, "this model"), ""]
        lines += [index.sentence(report), ""]
    return lines or ["No report was written for these parameters.", ""]
