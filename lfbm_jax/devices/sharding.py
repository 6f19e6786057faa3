"""Spreading examples over devices with `pmap`, and parameters to all of them.

With several processes, one pmapped call spans the devices of all of them: each process gives and
gets the rows of its own devices.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

AXIS = "devices"
MEMORY_FOR_DATA = 0.25


def replicate(tree: Any) -> Any:
    """Copies of arrays on every device of this process, laid out as pmapped functions return them.

    Giving them this layout from the first call on saves compiling that call a second time.
    """
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    # A copy, never an alias: pmapped updates donate their state.
    return jax.tree.map(lambda leaf: jax.device_put(jnp.array(leaf), layout), tree)


def has_room_for(size: int) -> bool:
    """Whether an accelerator can keep `size` bytes of data and a model beside it.

    False on a CPU, whose memory the data would only fill a second time.
    """
    device = jax.local_devices()[0]
    memory = device.memory_stats() if device.platform != "cpu" else None
    return memory is not None and size < MEMORY_FOR_DATA * memory.get("bytes_limit", 0)


def shard_size(batch_size: int) -> int:
    """How many examples of a batch one device gets; the last devices may get padding."""
    return -(-batch_size // jax.device_count())


def own_devices() -> slice:
    """Which of all devices, in the order of a pmapped call's leading axis, are this process's."""
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
        function: pmapped, (shared, examples with leading axes [devices, shard]) -> results with
            the same leading axes.
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
