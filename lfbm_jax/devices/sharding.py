"""Spreading examples over devices with `pmap`, and parameters to all of them.

With several processes, one call spans the devices of all of them: each process gives and gets the
rows of its own devices.

JAX maintains `pmap` as a layer over `jit` and `shard_map` and advises new code to use these. No
other module of the package calls it: elsewhere a mapped function is what `on_every_device` returns,
its arguments and results have a leading axis of this process's devices, and its body sees them
without it. So the exchange takes place here alone: `on_every_device` would wrap the body in
`shard_map` over a mesh of all devices, drop and restore the leading axis, and make arrays of all
processes from this process's rows and back; `compile_ahead` would lose its exception. A test trains
through such a form. `pmap` converts so at every call, between several processes only: for the 64
arrays of SVHN's state on 2 x 4 simulated devices that took half a millisecond of a call's 1.3 ms,
where a call is twenty training steps.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

AXIS = "devices"
MEMORY_FOR_DATA = 0.25


def replicate(tree: Any) -> Any:
    """Copies of arrays on every device of this process, laid out as mapped functions return them.

    Giving them this layout from the first call on saves compiling that call a second time.
    """
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    # A copy, never an alias: mapped updates donate their state.
    return jax.tree.map(lambda leaf: jax.device_put(jnp.array(leaf), layout), tree)


def on_every_device(
    function: Callable[..., Any],
    in_axes: Any,
    out_axes: Any = 0,
    donate_argnums: Sequence[int] = (),
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., Any]:
    """`function`, compiled to run on all devices at once, each with its own rows of the arguments.

    Args:
        function: sees one device's part, and may reduce over the axis `AXIS`.
        in_axes: for every argument 0 where the devices are its leading axis, or None where all of
            them get the same; or a tree of these.
        out_axes: likewise for the results, which are all the same where it is None.
        donate_argnums: arguments whose memory the results may take.
        devices: which ones, at most as many as the leading axis is long; None for all.
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=in_axes,
        out_axes=out_axes,
        donate_argnums=donate_argnums,
        devices=devices,
    )


def compile_ahead(mapped: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """`on_every_device`'s function, compiled for arguments of these shapes before its first call.

    With several processes it is compiled at its first call after all: what `pmap` compiles ahead
    takes arrays of all processes, not of this one.
    """
    return mapped if jax.process_count() > 1 else mapped.lower(*arguments).compile()


def has_room_for(size: int) -> bool:
    """Whether an accelerator can keep `size` bytes of data and a model beside it.

    False on a CPU, whose memory the data would only fill a second time.
    """
    device = jax.local_devices()[0]
    memory = device.memory_stats() if device.platform != "cpu" else None
    return memory is not None and size < MEMORY_FOR_DATA * memory.get("bytes_limit", 0)


def shard_size(batch_size: int, num_devices: int | None = None) -> int:
    """How many examples of a batch one of the devices gets; the last ones may get padding.

    Args:
        batch_size: examples in the batch.
        num_devices: how many share it; None for all there are.
    """
    return -(-batch_size // (num_devices or jax.device_count()))


def own_devices() -> slice:
    """Which of all devices, in the order of a batch's leading axis, are this process's."""
    count = jax.local_device_count()
    return slice(jax.process_index() * count, (jax.process_index() + 1) * count)


def map_over_examples(
    function: Callable[..., Any], shared: Any, examples: Any, batch_size: int
) -> Iterator[Any]:
    """Runs a compiled function over many examples, batch by batch, on all devices.

    Every call has the same shapes, so that nothing is compiled twice: what is missing in the last
    batch is filled with copies of its first example, whose results are dropped. Of several
    processes each computes its share, and all get all results.

    Args:
        function: of `on_every_device`, (shared, examples with leading axes [devices, shard]) ->
            results with the same leading axes.
        shared: its first argument, the same for all.
        examples: a pytree of NumPy arrays with a leading axis of N examples.
        batch_size: examples a call; rounded up to a multiple of the device count.

    Yields:
        Results as NumPy arrays with a leading axis; over all batches N of them, in order.
    """
    total = len(jax.tree.leaves(examples)[0])
    devices, shard = jax.device_count(), shard_size(batch_size)
    for begin in range(0, total, devices * shard):
        count = min(devices * shard, total - begin)
        rows = begin + np.where(np.arange(devices * shard) < count, np.arange(devices * shard), 0)

        def split(array, rows=rows):
            return array[rows.reshape(devices, shard)[own_devices()]]

        results = jax.device_get(function(shared, jax.tree.map(split, examples)))
        if jax.process_count() > 1:
            results = multihost_utils.process_allgather(results, tiled=True)
        yield jax.tree.map(
            lambda leaf, count=count: leaf.reshape(-1, *leaf.shape[2:])[:count], results
        )
