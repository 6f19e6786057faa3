"""Compiles a config's training update for an accelerator that this machine need not have.

Nothing here is measured. The result says whether the update compiles and fits, which operations
it runs, and a lower bound of its time. Without a GPU, a GPU's compiler chooses kernels without
timing them.
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
        config: the whole config; each device gets its share of `train.batch_size`.
        model: the model built from the config.
        target: the devices.

    Returns:
        `device`, the name of the device; `devices`, the number of devices; `compile_seconds`,
        including tracing; and for one device and one step, with all repeats of loops:

        argument_bytes, temporary_bytes: the memory that the compiler plans. Images are those of
            `train.steps_per_call` steps; persistent chains are those of one batch only.
        fits: whether the plan and the code fit into the part of the memory that JAX uses. A TPU's
            compiler rejects a program that does not fit; then `refusal`, its message, replaces all
            other entries from `compile_seconds` on.
        operations_per_step: the number of operations (kernels on a GPU): their `total`, and by kind
            all except library calls.
        library_calls: the number of calls of each library function.
        flops_per_step: operations of matrix products and convolutions by the precision that they
            request, without products with padding. The rest (activations, random numbers, Adam) is
            left out.
        bytes_exchanged_per_step: the bytes that one device passes to exchanges with others.
        modelled_cycles: an estimate by the compiler; None for GPUs, whose compiler makes none.
        seconds_at_least: the longer of two times: of the products at the device's peak rates, and
            of reading all arguments and writing all results once at its bandwidth. None if a peak
            rate is not known. On a GPU, starting the kernels adds some microseconds for each.
    """
    begin = time.perf_counter()
    lowered = _lower(config, model, target)
    found = {"device": target.accelerator.name, "devices": len(target.devices)}
    try:
        compiled: Any = lowered.compile()  # Its two analyses are optional, but XLA's have both.
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
        # A single device exchanges nothing, though a compiler may leave the operation in.
        "bytes_exchanged_per_step": counted.exchanged_bytes if len(target.devices) > 1 else 0,
        "modelled_cycles": None if is_gpu else counted.modelled_cycles,
        "seconds_at_least": _seconds_at_least(target.accelerator, flops, moved),
    }


def _lower(config: ml_collections.ConfigDict, model: Model, target: Target) -> jax.stages.Lowered:
    """Traces the update of `learning` for the shapes of a call on the target's devices."""
    count, side = len(target.devices), config.data.image_size
    shard = sharding.shard_size(config.train.batch_size, count)
    shape = (count, config.train.steps_per_call, shard)
    shaped: Any = jax.ShapeDtypeStruct  # It stands for an array.
    examples = Example(
        shaped((*shape, side, side, config.data.channels), jnp.uint8),
        shaped(shape, jnp.int32),
        shaped(shape, jnp.float32),
        shaped((*shape, side, side, 1), jnp.uint8) if config.data.mask else None,
    )
    init = functools.partial(learning.init_state, config, model, count * shard)
    update: Any = learning.make_update(
        config, model, steps_per_epoch=1000, devices=target.devices
    )  # a function that JAX has compiled
    return update.lower(jax.eval_shape(init), examples, np.int32(1))


def _by_precision(counted: hlo.Count, is_gpu: bool) -> dict[str, int]:
    """The flops of products by `precision`; those that request none count as the default."""
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
