"""Defines the keys of every config, and variants such as `configs/svhn.py:prior=gaussian,smoke`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.inference import langevin
from lfbm_jax.layers.precision import PRECISIONS
from lfbm_jax.learning import schedules
from lfbm_jax.model import GROUPS
from lfbm_jax.runs import build

# A variant changes a config in place. If it is written `name=value`, it gets the value as text.
Variant = Callable[[ml_collections.ConfigDict, str], None]


def base() -> ml_collections.ConfigDict:
    """A config with every key; values that the paper gives are those of its SVHN experiment."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "data": {
                "source": "tfds",  # module of lfbm_jax.data
                "name": "",  # name of the data set and of its cache
                "dir": "",  # folder of the source's files
                "manual_dir": "",  # original archives for TFDS, if it may not download them
                "cache_dir": "",  # '': lfbm_jax in the user's cache folder
                # Names of huggingface columns or npz arrays; '': the usual names.
                "image_field": "",
                "label_field": "",
                "image_size": 32,  # height and width in pixels; smaller images are enlarged
                "channels": 3,
                "crop": "",  # '', 'center' or 'top,left,height,width', before resizing
                "convert": False,  # accept images of other modes: grey, palette, transparent, ...
                "background": "white",  # colour behind transparent pixels that are converted
                "horizontal_flip": False,  # mirror a random half of the training images
                "test_split": "test",  # split of a TFDS or Hugging Face data set to hold out
                "test_fraction": 0.0,  # share to hold out if the source has no test split
                "exclude_labels": (),  # classes left out of training, see images/selection.py
                # If not 0, all images are pooled and split again by a permutation with this seed,
                # and this share of the images of the other classes is for training.
                "pooled_train_share": 0.0,
                "pooled_seed": 0,
                "num_train": 0,  # largest number of training images; 0: all
                "mask": "",  # occludes the training images, such as "salt_and_pepper:0.5"
            },
            "model": {
                "latent_dim": 100,
                "sigma": 0.3,  # standard deviation of the observation noise, for x in [-1, 1]
                "learned_sigma": False,  # learn sigma, starting from the value above
            },
            "prior": build.defaults("prior", "glow"),
            "generator": build.defaults("generator", "convnet"),
            "inference": build.defaults("inference", "langevin"),
            "eval_inference": build.defaults("inference", "langevin") | langevin.EVALUATION,
            # Infers from incomplete images if eval_inference is a network, which needs whole
            # images. `finish` sets it to the eval_inference of the config without variants.
            "masked_inference": build.defaults("inference", "langevin") | langevin.EVALUATION,
            "objective": build.defaults("objective", "variational"),
            "optimizer": {
                section: {
                    "learning_rate": 4e-4,
                    "b1": 0.5,
                    "b2": 0.999,
                    "schedule": "per_epoch",  # or constant, cosine: see schedules.py
                    "decay_per_epoch": 0.998,  # for per_epoch
                    "decay_steps": 0,  # for cosine: the iteration at which the rate reaches 0
                    "warmup_steps": 0,  # iterations of a linear ramp, with any schedule
                    "clip_norm": 0.0,  # largest norm of the group's gradient; 0: no clipping
                }
                for section in (*GROUPS, "objective")
            },
            "train": {
                "batch_size": 100,
                "num_epochs": 200,
                "num_steps": 0,  # iterations; overrides num_epochs unless 0
                "prior_inference_updates": 1,  # updates of alpha, phi per update of beta (Table 10)
                "microbatch_size": 0,  # examples per device at once; 0: its share of a batch
                "ema_decay": 0.0,  # decay of a moving average of the parameters; 0: no average
                "steps_per_call": 1,  # iterations between returns to the host
                "log_every": 100,  # in iterations; these three are rounded up to whole calls
                "sample_every": 1000,
                "checkpoint_every": 1000,
            },
            "metrics": {
                "inception_weights": "",  # file of the FID network, or "download"; '': no FID
                "fid_statistics": "",  # .npz of the training images; '': computed, then cached
            },
            "tasks": ("generate", "reconstruct"),
            "task": {name: dict(build.task(name).settings) for name in build.names("tasks")},
            "precision": "float32",  # of the networks; or tensorfloat32, bfloat16 (precision.py)
            "deterministic": False,  # bit-for-bit repeatable on GPUs too, at some cost
        }
    )


def finish(
    config: ml_collections.ConfigDict, variants: str, own: Mapping[str, Variant] | None = None
) -> ml_collections.ConfigDict:
    """Applies variants in the order of `own`, not in that of the text, then locks the config.

    The mask comes first, then an experiment's own variants, then the grid's, and `smoke` last, so
    that no variant undoes another. Two variants that choose the same part are refused.

    Args:
        config: a config from `base`, with an experiment's values.
        variants: comma-separated names: `smoke`, `mask=<mask>` (learns from images occluded by a
            mask such as `random_box:12`), and those of `own`.
        own: name -> function of (config, value), for the experiment's own variants and the grid's.

    Raises:
        UserError: a variant is unknown, is given twice, or chooses what another one chose.
    """
    config.masked_inference = config.eval_inference.to_dict()
    known = {"mask": _mask} | dict(own or {}) | {"smoke": _smoke}
    values: dict[str, str] = {}
    for variant in filter(None, variants.split(",")):
        name, _, value = variant.partition("=")
        if name not in known:
            raise UserError(f"config variant {name!r}: {did_you_mean(name, list(known))}")
        if name in values:
            raise UserError(f"config variant {name!r} is given twice: leave one out")
        values[name] = value
    chosen_by: dict[str, str] = {}
    for name in sorted(values, key=list(known).index):
        before = _choices(config)
        known[name](config, values[name])
        for field, choice in _choices(config).items():
            changed = choice != before[field] and known[name] is not _smoke
            if changed and name != chosen_by.setdefault(field, name):
                raise UserError(
                    f"config variants {chosen_by[field]!r} and {name!r} both set {field}:"
                    " leave one of the two out"
                )
    return config.lock()


def _choices(config: ml_collections.ConfigDict) -> dict[str, str]:
    """The fields that only one variant may set: parts that learn, the data source and the mask."""
    sections = ("prior", "generator", "inference", "objective")
    names = {f"{section}.name": config[section].name for section in sections}
    return names | {"data.source": config.data.source, "data.mask": config.data.mask}


def check(config: ml_collections.ConfigDict) -> None:
    """Checks the values that no part checks.

    Raises:
        UserError: a value is invalid.
    """
    if config.precision not in PRECISIONS:
        near = did_you_mean(config.precision, list(PRECISIONS))
        raise UserError(f"precision={config.precision!r}: {near}")
    at_least_one = (
        "batch_size",
        "prior_inference_updates",
        "steps_per_call",
        "log_every",
        "sample_every",
        "checkpoint_every",
    )
    for key in at_least_one:
        _require(config.train[key] >= 1, f"train.{key}", config.train[key], "at least 1")
    length = config.train.num_steps or config.train.num_epochs
    _require(length != 0, "train.num_steps", 0, "at least 1, or train.num_epochs")
    for key in ("num_epochs", "num_steps", "microbatch_size"):
        _require(config.train[key] >= 0, f"train.{key}", config.train[key], "at least 0")
    for section, settings in config.optimizer.items():
        for key, upper in (("learning_rate", math.inf), ("decay_per_epoch", math.inf)):
            value = settings[key]
            _require(0 < value < upper, f"optimizer.{section}.{key}", value, "positive")
        for key in ("b1", "b2"):
            value = settings[key]
            _require(0 <= value < 1, f"optimizer.{section}.{key}", value, "in [0, 1)")
        clip_norm = settings.clip_norm
        _require(clip_norm >= 0, f"optimizer.{section}.clip_norm", clip_norm, "at least 0")
        schedules.check(section, settings)
    ema_decay = config.train.ema_decay
    _require(0 <= ema_decay < 1, "train.ema_decay", ema_decay, "in [0, 1)")
    _require(0 <= config.seed < 2**31, "seed", config.seed, "from 0 to 2147483647")
    _check_tasks(config)


def _check_tasks(config: ml_collections.ConfigDict) -> None:
    prior: Any = build.part_class("prior", config.prior.name)
    for name in config.tasks:
        batch_size = config.task[name].get("batch_size", 1) if name in config.task else 1
        _require(batch_size >= 1, f"task.{name}.batch_size", batch_size, "at least 1")
        task = build.task(name)
        if task.needs_potential and not prior.has_potential:
            raise UserError(
                f"tasks: {name} needs a prior whose gradient is the slope of its log p(z), and"
                f" prior.name={config.prior.name!r} has another; leave it out"
            )
        task.check(config)


def _require(fine: bool, field: str, value: Any, wanted: str) -> None:
    if not fine:
        raise UserError(f"{field}={value}: must be {wanted}")


def _mask(config: ml_collections.ConfigDict, mask: str) -> None:
    """Trains on occluded images and recovers them (section 4.6)."""
    config.data.mask = mask
    config.tasks = ("recover", "generate")


def _smoke(config: ml_collections.ConfigDict, _: str) -> None:
    """Trains a narrow network for two steps on made-up images; takes seconds and no data set."""
    config.data.source = "synthetic"
    config.data.test_fraction = 0.25
    for section in build.SECTIONS:
        part: Any = build.part_class(section, config[section].name)
        config[section] = part.smoke_settings(config[section].to_dict())
    config.train.update(
        {
            "batch_size": 4,
            "num_steps": 2,
            "steps_per_call": 1,
            "log_every": 1,
            "sample_every": 2,
            "checkpoint_every": 1,
        }
    )
    for name, settings in config.task.items():
        settings.update(build.task(name).smoke)
