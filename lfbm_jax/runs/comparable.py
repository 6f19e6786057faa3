"""Decides which of the paper's figures may be shown beside ours.

A figure of the paper is shown beside ours only if, as far as is known, both were measured alike.
Those of Table 3 never are: its columns may be swapped or rescaled, as `tables` says beside them.
`figures` decides this from a run's resolved config and report, so any variant or override that
matters removes the paper's figure. All of the following must agree:

- data: the real data set, its size, cropping, training images and split (`data_set`, `given`);
- method: prior, inference and objective (`method`);
- every setting that the paper or published code gives: Tables 7 to 10 and 12, and the values of the
  authors' code where they differ (`paper_settings.given`). Settings that neither mentions must be
  unused. Only settings that every run needs and that have no published value may differ;
- training for at least as many epochs as the authors' published checkpoint (MNIST: 20, ours);
- what was measured: all images of the split for MSE, 50,000 samples against all training images
  for FID, the 80/20 protocol for AUPRC, the 10,000 images of section 4.6 for recovery.

The following are not distinguished: `float32` and `tensorfloat32` (the authors used the latter),
the two numbers of testing steps that the authors may have used (`:authors_test_steps`), devices,
seeds, and what `alike` ignores. Times (Table 11) depend on the device, so reports never show
the paper's. Nor do reports of averaged parameters show any, as the paper does not average.
"""

from collections.abc import Mapping
from typing import Any

from lfbm_jax.reports import paper
from lfbm_jax.runs import alike, paper_settings
from lfbm_jax.runs.paper_settings import EXPERIMENTS, NUM_RECOVERED, method
from lfbm_jax.runs.variants import AUTHORS_TEST_FACTOR

# (data.source, data.name) -> the name of the data set.
DATA_SETS = {
    ("tfds", "svhn_cropped"): "SVHN",
    ("svhn_mat", "svhn_cropped"): "SVHN",
    ("tfds", "cifar10"): "CIFAR-10",
    ("cifar10_batches", "cifar10"): "CIFAR-10",
    ("image_folder", "cifar10_jpeg"): "CIFAR-10 (JPEG)",
    ("tfds", "celeb_a"): "CelebA",
    ("image_folder", "celebahq256"): "CelebAMask-HQ",
    ("idx", "mnist"): "MNIST",
    ("tfds", "mnist"): "MNIST",
    ("idx", "fashion_mnist"): "Fashion-MNIST",
    ("tfds", "fashion_mnist"): "Fashion-MNIST",
}
MADE_UP = "made-up images"
NUM_MNIST = 70_000
NUM_INPAINTED = 10_000  # section 4.3
MNIST_EPOCHS = 20  # ours


def data_set(config: Mapping[str, Any]) -> str:
    """The name of a run's data set, as in the paper if the paper uses it."""
    data = config["data"]
    source, name = data["source"], data["name"]
    if source == "synthetic":
        return f"{MADE_UP}, {data['image_size']} x {data['image_size']}"
    return DATA_SETS.get((source, name), name or source)


def figures(config: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, float]:
    """The paper's figures that may be shown beside those of a report, by their names in it.

    Args:
        config: the run's config, as `workdir.read_config` returns it.
        report: a report with `task`, `step`, `figures` and `setup`.
    """
    printed = _printed(config, report["task"])
    if not printed or differences(config, [report]) or is_too_short(config, report["step"]):
        return {}
    return printed


def differences(config: Mapping[str, Any], reports: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings in which a run differs from the paper's experiment on its data and method.

    Args:
        config: the run's config.
        reports: the reports whose figures are to be compared.

    Returns:
        The run's values of these settings; {} also for data that the paper does not use.
    """
    data = data_set(config)
    if data == "MNIST" and not config["data"]["exclude_labels"]:
        return {}  # On MNIST the paper has only anomaly detection.
    own = alike.settings(config, reports)
    given = paper_settings.given(data, method(config)) | _measured(config, data)
    if config["data"]["mask"] and data == "CelebA":
        given = {k: v for k, v in given.items() if k != "data.mask"}
        given["data.num_train"] = NUM_RECOVERED
    found = {k: own[k] for k, value in given.items() if k in own and own[k] != value}
    steps = "eval_inference.num_steps"
    if steps in found and found[steps] == AUTHORS_TEST_FACTOR * (given[steps] or 0):
        del found[steps]
    if given and config["precision"] == "bfloat16":
        found["precision"] = "bfloat16"
    return found


def is_too_short(config: Mapping[str, Any], step: int) -> bool:
    """Whether a model of the paper's data was trained for less than the authors' checkpoint.

    No length is published for MNIST, so it is compared with `configs/mnist_anomaly.py`.
    """
    data = data_set(config)
    if data == "MNIST":
        labels = config["data"]["exclude_labels"]
        scored = paper.POOLED_NUM_SCORED.get(labels[0], 0) if labels else 0
        steps_per_epoch = -(-(NUM_MNIST - scored) // config["train"]["batch_size"])
        return step < MNIST_EPOCHS * steps_per_epoch
    experiment = EXPERIMENTS.get(data)
    if experiment is None:
        return False
    count = NUM_RECOVERED if config["data"]["mask"] else experiment.num_train
    steps_per_epoch = -(-count // config["train"]["batch_size"])
    return step < experiment.num_epochs * steps_per_epoch


def _printed(config: Mapping[str, Any], task: str) -> dict[str, float]:
    """The paper's figures for a task, given the data and the method of a config."""
    data, name = data_set(config), method(config)
    mask = config["data"]["mask"]
    if task == "anomaly" and data == "MNIST" and name in paper.TABLE_4_BESIDE_80_20:
        labels = config["data"]["exclude_labels"]
        if len(labels) == 1 and labels[0] in paper.TABLE_4_DIGITS:
            return {"auprc": paper.TABLE_4[name][0][paper.TABLE_4_DIGITS.index(labels[0])]}
        return {}
    if mask:
        kind = paper.occlusion(mask, config["data"]["image_size"]) if data == "CelebA" else None
        table = {"recover": ("mse", "mse_hidden"), "generate": ("fid", "fid")}.get(task)
        if kind is None or table is None or name not in paper.TABLES_5_AND_6[table[0]]:
            return {}
        return {table[1]: paper.TABLES_5_AND_6[table[0]][name][paper.OCCLUSIONS.index(kind)]}
    if task == "generate" and data == "CelebAMask-HQ" and name in paper.TABLE_13:
        return {"fid": paper.TABLE_13[name][-1]}
    figure = {"reconstruct": "mse", "generate": "fid"}.get(task)
    if figure is None:
        return {}
    value = paper.table_2(data, name, figure)
    return {} if value is None else {figure: value}


def _measured(config: Mapping[str, Any], data: str) -> dict[str, Any]:
    """What reports of the paper's own runs would say about images."""
    if data == "MNIST":
        labels = config["data"]["exclude_labels"]
        count = paper.POOLED_NUM_SCORED.get(labels[0]) if len(labels) == 1 else None
        return {"anomaly num_images": count}
    if data not in EXPERIMENTS:
        return {}
    mask, experiment = bool(config["data"]["mask"]), EXPERIMENTS[data]
    count = experiment.num_train
    return {
        "reconstruct num_images": experiment.num_test,
        "inpaint num_images": NUM_INPAINTED,
        **({"task.inpaint.mask": f"center_box:{paper.HOLE}"} if data == "CelebA" else {}),
        # Section 4.6 does not say which images the samples are compared with.
        **({} if mask else {"generate fid_reference": f"train split, {count} images (all)"}),
        "task.generate.fid_num_images": 50_000,
        "recover num_images": NUM_RECOVERED,
    }
