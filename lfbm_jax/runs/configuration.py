"""The keys every config has, and variants: `--config=configs/svhn.py:prior=gaussian,smoke`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.inference import langevin
from lfbm_jax.layers.precision import PRECISIONS
from lfbm_jax.learning import schedules
from lfbm_jax.runs import build

# A variant changes a config in place; one written `name=value` gets the value as text.
Variant = Callable[[ml_collections.ConfigDict, str], None]


def base() -> ml_collections.ConfigDict:
    """A config with every key, in the setting of the paper's SVHN experiment where it has one."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "data": {
                "source": "tfds",  # module of lfbm_jax.data
                "name": "",  # the data set, and the name of its cache
                "dir": "",  # where the source's files lie
                "manual_dir": "",  # original archives for TFDS, where it may not download
                "cache_dir": "",  # '': lfbm_jax in the user's cache folder
                # Columns of huggingface or arrays of npz; '': the usual names.
                "image_field": "",
                "label_field": "",
                "image_size": 32,  # height and width in pixels; smaller images are enlarged
                "channels": 3,
                "crop": "",  # '', 'center' or 'top,left,height,width', before resizing
                "convert": False,  # images of other modes, such as grey, palette or transparent
                "background": "white",  # colour behind transparent pixels that are converted
                "horizontal_flip": False,  # mirror a random half of the training images
                "test_split": "test",  # held out and scored, of TFDS and Hugging Face data sets
                "test_fraction": 0.0,  # share held out where the source has no test split
                "exclude_labels": (),  # classes left out of training, see images/selection.py
                # Share of the other classes' images that trains where all images are pooled and
                # split anew, by a permutation with this seed; 0: the source's splits.
                "pooled_train_share": 0.0,
                "pooled_seed": 0,
                "num_train": 0,  # at most so many training images; 0: all
                "mask": "",  # hides pixels of the training images, as "salt_and_pepper:0.5" does
            },
            "model": {
                "latent_dim": 100,
                "sigma": 0.3,  # of the observation noise, for x in [-1, 1]
                "learned_sigma": False,  # sigma is where learning it begins
            },
            "prior": build.defaults("prior", "glow"),
            "generator": build.defaults("generator", "convnet"),
            "inference": build.defaults("inference", "langevin"),
            "eval_inference": build.defaults("inference", "langevin") | langevin.EVALUATION,
            # Of incomplete images, where eval_inference is a network, which needs whole ones.
            # `finish` makes it the chain that evaluates the config without variants.
            "masked_inference": build.defaults("inference", "langevin") | langevin.EVALUATION,
            "objective": build.defaults("objective", "variational"),
            "optimizer": {
                section: {
                    "learning_rate": 4e-4,
                    "b1": 0.5,
                    "b2": 0.999,
                    "schedule": "per_epoch",  # or constant, cosine: see schedules.py
                    "decay_per_epoch": 0.998,  # of per_epoch
                    "decay_steps": 0,  # of cosine: the iteration at which the rate reaches 0
                    "warmup_steps": 0,  # iterations of a linear ramp, with any schedule
                    "clip_norm": 0.0,  # greatest norm of the group's gradient; 0: no clipping
                }
                for section in ("generator", "prior", "inference")
            },
            "train": {
                "batch_size": 100,
                "num_epochs": 200,
                "num_steps": 0,  # wins over num_epochs where not 0
                "prior_inference_updates": 1,  # updates of alpha and phi for one of beta (Table 10)
                "microbatch_size": 0,  # examples a device works on at once; 0: its share of a batch
                "ema_decay": 0.0,  # of the parameters' moving average, evaluated too; 0: none
                "steps_per_call": 1,  # iterations between looks at the host
                "log_every": 100,  # these three are rounded up to whole calls
                "sample_every": 1000,
                "checkpoint_every": 1000,
            },
            "metrics": {
                "inception_weights": "",  # the FID network's: a file, or "download"; '': no FID
                "fid_statistics": "",  # .npz of training images; '': made once, in their cache
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
    """Applies variants in the order of `own`, however they are written, then locks the config.

    What an experiment's own variants change comes before what those of the grid do, and `smoke`
    after all others, so that none undoes another; two that choose the same part are refused.

    Args:
        config: from `base`, with an experiment's values.
        variants: comma-separated; `smoke`, `mask=<mask>` such as `mask=random_box:12`, which learns
            from images that are occluded so, and those of `own`.
        own: name -> function of (config, value), for the experiment's own variants and the grid's.

    Raises:
        UserError: a variant is unknown, is given twice, or chooses what another one chose.
    """
    config.masked_inference = config.eval_inference.to_dict()
    known = {"mask": _mask} | (own or {}) | {"smoke": _smoke}
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
    """What no two variants may set: the parts that learn, the data's source and the mask."""
    sections = ("prior", "generator", "inference", "objective")
    names = {f"{section}.name": config[section].name for section in sections}
    return names | {"data.source": config.data.source, "data.mask": config.data.mask}


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for values that no part checks by itself."""
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
    for name in config.tasks:
        build.task(name).check(config)


def _require(fine: bool, field: str, value: Any, wanted: str) -> None:
    if not fine:
        raise UserError(f"{field}={value}: must be {wanted}")


def _mask(config: ml_collections.ConfigDict, mask: str) -> None:
    """Learning from occluded images, and their recovery (section 4.6)."""
    config.data.mask = mask
    config.tasks = ("recover", "generate")


def _smoke(config: ml_collections.ConfigDict, _: str) -> None:
    """Two steps of a narrow network on made-up images: seconds, and no data set needed."""
    config.data.source = "synthetic"
    config.data.test_fraction = 0.25
    for section in build.SECTIONS:
        part = build.part_class(section, config[section].name)
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
