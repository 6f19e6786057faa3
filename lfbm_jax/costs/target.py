"""What an accelerator's own compiler makes of a config's training update, without the accelerator.

Nothing here is measured: it says whether the update compiles and fits, what will run, and how fast
it cannot be. A GPU's compiler that has no GPU chooses kernels without timing them.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax import learning
from lfbm_jax.costs import hlo
from lfbm_jax.costs.accelerators import Accelerator, Target
from lfbm_jax.costs.memory import SHARE_OF_DEVICE
from lfbm_jax.devices import sharding
from lfbm_jax.model import Example, Model


def describe(config: ml_collections.ConfigDict, model: Model, target: Target) -> dict[str, Any]:
    """Compiles the config's update for a target, as training would on its devices.

    Args:
        config: the whole config; every device gets its share of `train.batch_size`.
        model: built from it.
        target: the devices.

    Returns:
        `device` and `devices`, its name and their number; `compile_seconds`, with tracing; and for
        one of the devices and one step, with loops multiplied out:

        argument_bytes, temporary_bytes: what the compiler plans. Images are those of
            `train.steps_per_call` steps; persistent chains are those of one batch alone.
        fits: whether the plan and the code take at most the part of the memory that JAX uses. A
            TPU's compiler refuses what does not fit: then all of the others are missing but
            `refusal`, its own words.
        operations_per_step: the kernels of a GPU; `total`, and by kind without library calls.
        library_calls: by the library's function.
        flops_per_step: of matrix products and convolutions by the precision that they ask for,
            without products with padding; the rest (activations, random numbers, Adam) is left out.
        bytes_exchanged_per_step: what one device gives to exchanges with others.
        modelled_cycles: the compiler's own model; None for GPUs, whose compiler has none.
        seconds_at_least: the longer of the time of the products at the device's peak rates and that
            of reading all arguments and writing all results once at its bandwidth; None where a
            peak rate is not known. Starting a GPU's kernels takes time on top, microseconds each.
    """
    begin = time.perf_counter()
    lowered = _lower(config, model, target)
    found = {"device": target.accelerator.name, "devices": len(target.devices)}
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return found | {"fits": False, "refusal": str(error).splitlines()[0]}
    seconds = time.perf_counter() - begin
    plan, counted = compiled.memory_analysis(), hlo.count(compiled.as_text())
    results = plan.output_size_in_bytes - plan.alias_size_in_bytes
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes + results
    needed += plan.generated_code_size_in_bytes
    is_gpu = bool(target.accelerator.gpu)
    share = SHARE_OF_DEVICE if is_gpu else 1.0
    flops = _by_precision(counted, is_gpu)
    moved = plan.argument_size_in_bytes + plan.output_size_in_bytes
    return found | {
        "compile_seconds": round(seconds, 1),
        "argument_bytes": plan.argument_size_in_bytes,
        "temporary_bytes": plan.temp_size_in_bytes,
        "fits": needed <= share * target.accelerator.memory_bytes,
        "operations_per_step": {
            "total": counted.kinds.total() + counted.library_calls.total(),
            **dict(counted.kinds.most_common()),
        },
        "library_calls": dict(counted.library_calls.most_common()),
        "flops_per_step": flops,
        # A device alone exchanges nothing, though a compiler may leave the operation in.
        "bytes_exchanged_per_step": counted.exchanged_bytes if len(target.devices) > 1 else 0,
        "modelled_cycles": None if is_gpu else counted.modelled_cycles,
        "seconds_at_least": _seconds_at_least(target.accelerator, flops, moved),
    }


def _lower(config: ml_collections.ConfigDict, model: Model, target: Target) -> jax.stages.Lowered:
    """The update of `learning`, traced for the shapes of a call on the target's devices."""
    count, side = len(target.devices), config.data.image_size
    shard = sharding.shard_size(config.train.batch_size, count)
    shape = (count, config.train.steps_per_call, shard)
    examples = Example(
        jax.ShapeDtypeStruct((*shape, side, side, config.data.channels), jnp.uint8),
        jax.ShapeDtypeStruct(shape, jnp.int32),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((*shape, side, side, 1), jnp.uint8) if config.data.mask else None,
    )
    init = functools.partial(learning.init_state, config, model, count * shard)
    update = learning.make_update(config, model, steps_per_epoch=1000, devices=target.devices)
    return update.lower(jax.eval_shape(init), examples, np.int32(1))


def _by_precision(counted: hlo.Count, is_gpu: bool) -> dict[str, int]:
    """The operations of products by `precision`, where they ask for none by that they then get."""
    flops = dict(counted.flops)
    unasked = flops.pop("default", 0)
    if unasked:
        name = "tensorfloat32" if is_gpu else "bfloat16"
        flops[name] = flops.get(name, 0) + unasked
    return flops


def _seconds_at_least(accelerator: Accelerator, flops: dict[str, int], moved: int) -> float | None:
    if not flops.keys() <= accelerator.peak.keys():
        return None
    products = sum(number / accelerator.peak[precision] for precision, number in flops.items())
    return float(f"{max(products, moved / accelerator.bandwidth):.3g}")
