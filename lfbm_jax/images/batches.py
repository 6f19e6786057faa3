"""Batches of training examples: which images each step uses, in which order, on which device."""

import functools

import jax
import numpy as np

from lfbm_jax.devices import sharding
from lfbm_jax.images.cache import Split
from lfbm_jax.model import Example


class Batches:
    """The examples of any training step, as a function of the seed and the step alone.

    An epoch visits every image once, in an order that depends on (seed, epoch). Its last batch may
    be smaller: examples of weight zero fill it up, as they fill any batch that the device count
    does not divide.

    Attributes:
        steps_per_epoch: the number of batches in an epoch.

    Args:
        split: the training images and labels.
        seed: determines the order of the images.
        batch_size: the number of examples per step.
        masks: uint8 [N, H, W, 1], 1 where a pixel is visible; None if all are.
        resident: whether all images are kept on every device, which then gathers its own share.
            None: only on accelerators with plenty of free memory.
    """

    def __init__(
        self,
        split: Split,
        seed: int,
        batch_size: int,
        masks: np.ndarray | None = None,
        resident: bool | None = None,
    ):
        data = (split.images, masks)
        if resident is None:
            resident = sharding.has_room_for(sum(array.nbytes for array in jax.tree.leaves(data)))
        self._split, self._all_masks = split, masks
        if resident:
            data = sharding.replicate(jax.tree.map(np.asarray, data))
        self._images, self._masks = data
        self._pick = _pick_on_devices if resident else _pick_on_host
        self._seed = seed
        self._batch_size = batch_size
        self.steps_per_epoch = -(-len(split.images) // batch_size)

    def __call__(self, step: int, num_steps: int) -> Example:
        """Examples of `num_steps` steps, starting at `step`; leading axes [devices, steps, shard].

        They are the examples of this process's devices; all processes together see the whole batch.
        """
        rows, weights = zip(*(self._step(step + i) for i in range(num_steps)), strict=True)
        shape = (num_steps, jax.device_count(), sharding.shard_size(self._batch_size))

        def own(values):
            # The device axis comes first. ascontiguousarray copies indices, not images.
            values = np.stack(values).reshape(shape).swapaxes(0, 1)
            return np.ascontiguousarray(values[sharding.own_devices()])

        index, weight = own(rows), own(weights)
        image = self._pick(self._images, index)
        mask = None if self._masks is None else self._pick(self._masks, index)
        return Example(image, index, weight, mask)

    def spread(self, count: int) -> Example:
        """At most `count` of the training images, spread evenly; leading axis [count]."""
        index = self._split.rows(count).astype(np.int32)
        masks = None if self._all_masks is None else self._all_masks[index]
        weight = np.ones(len(index), np.float32)
        return Example(self._split.images[index], index, weight, masks)

    def _step(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (int32) and weights (float32) of one step, padded to equal shards."""
        epoch, position = divmod(step, self.steps_per_epoch)
        begin = position * self._batch_size
        total = len(self._split.images)
        rows = _order(self._seed, epoch, total)[begin : begin + self._batch_size]
        size = jax.device_count() * sharding.shard_size(self._batch_size)
        padded = np.full(size, rows[0])
        padded[: len(rows)] = rows
        weight = (np.arange(size) < len(rows)).astype(np.float32)
        return padded.astype(np.int32), weight


def _pick_on_host(images: np.ndarray, index: np.ndarray) -> np.ndarray:
    return images[index]


@functools.partial(sharding.on_every_device, in_axes=(None, 0))
def _pick_on_devices(images: jax.Array, index: jax.Array) -> jax.Array:
    return images[index]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation of an epoch. Two are cached, because one call may span two epochs."""
    return np.random.default_rng((seed, epoch)).permutation(size)
