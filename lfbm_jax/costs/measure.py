"""Measures one config's training step on this machine: the benchmark's worker."""

import contextlib
import functools
import math
import os
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax import learning
from lfbm_jax.costs import memory
from lfbm_jax.costs.describe import describe
from lfbm_jax.devices import host_memory, sharding
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model

PARTS = ("inference", "prior_update", "generator_update", "synthesis")
REPEATS = 5
REPEATS_SECONDS = 20.0  # A call is not repeated once this total is reached.
CEILING_SIDE = {"cpu": 2048}  # The rows of the square matrices that `ceiling_gflops` multiplies;
CEILING_SIDE_ELSEWHERE = 8192  # accelerators need more of them to be busy.


class Step:
    """A training step on random images, compiled at construction.

    Attributes:
        compile_seconds: the time that tracing and compiling took.
    """

    def __init__(self, config: ml_collections.ConfigDict, model: Model):
        self._config, self._model = config, model
        batch, side = config.train.batch_size, config.data.image_size
        devices, shard = jax.local_device_count(), sharding.shard_size(batch)
        random = np.random.default_rng(0)
        shape = (devices, 1, shard)
        self._batch = Example(
            random.integers(0, 256, (*shape, side, side, config.data.channels), dtype=np.uint8),
            np.arange(devices * shard, dtype=np.int32).reshape(shape),
            (np.arange(devices * shard) < batch).astype(np.float32).reshape(shape),
        )
        init = functools.partial(learning.init_state, config, self._model, devices * shard)
        update = learning.make_update(config, self._model, steps_per_epoch=1000)
        begin = time.perf_counter()
        # Compiled from shapes alone: compiling takes the most memory, so the state comes later.
        self._update = learning.compile_update(update, jax.eval_shape(init), self._batch)
        self.compile_seconds = time.perf_counter() - begin
        self._state = sharding.replicate(init())
        host_memory.release()

    def run(self, steps: int) -> float:
        """Runs a number of steps and returns the seconds that they take."""
        begin = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._update(self._state, self._batch, np.int32(1))
        jax.block_until_ready(self._state)
        seconds = time.perf_counter() - begin
        for name, values in jax.device_get(metrics).items():
            if not np.isfinite(values).all():
                raise FloatingPointError(f"train/{name} is {values} after a step on random images")
        return seconds

    def parts(self, names: Collection[str] = PARTS) -> dict[str, float]:
        """Measures seconds of inference and of both updates, and milliseconds to draw a batch.

        All of it is measured on one device, with its share of the batch: other devices would work
        at the same time. Inference and updates take a microbatch; its time counts once for each
        microbatch of the share. The updates are those of the objective `variational`.

        Args:
            names: the parts to measure, from PARTS.
        """
        config, built = self._config, self._model
        parameters = jax.device_put(jax.device_get(self._state.parameters), jax.devices()[0])
        share = self._batch.index[0, 0]
        microbatches = -(-len(share) // (config.train.microbatch_size or len(share)))
        index = share[: -(-len(share) // microbatches)]
        x = to_unit_range(self._batch.image[0, 0, : len(index)])

        def infer(parameters, x, index):
            prepared = built.prepare(parameters)

            def one_example(x, index):
                key = key_for(config.seed, Purpose.INFERENCE, 0, index, 0)
                example = Example(x, index, jnp.ones(()))
                return built.inference.infer(
                    prepared.phi, key, example, built.log_joint(prepared, x)
                ).z

            return jax.vmap(one_example)(x, index)

        def prior_loss(alpha, z, index):
            prepared = built.prior.prepare(alpha)

            def one_example(z, index):
                key = key_for(config.seed, Purpose.PRIOR_LOSS, 0, index, 0)
                return built.prior.loss(prepared, key, z)

            return jnp.mean(jax.vmap(one_example)(z, index))

        def generator_loss(beta, parameters, x, z):
            prepared = built.prepare(parameters._replace(beta=beta))
            log_prob = functools.partial(built.log_p_x_given_z, prepared)
            return -jnp.mean(jax.vmap(log_prob)(x, z))

        def draw(parameters, index):
            prepared = built.prepare(parameters)
            keys = jax.vmap(lambda i: key_for(config.seed, Purpose.SAMPLE, i))(index)
            return jax.vmap(functools.partial(built.sample, prepared))(keys)[1]

        found = {}
        if "inference" in names:
            found["inference_seconds"] = microbatches * _seconds(infer, parameters, x, index)
        if {"prior_update", "generator_update"} & set(names):
            z = jax.jit(infer)(parameters, x, index)
        if "prior_update" in names:
            update = jax.grad(prior_loss)
            seconds = _seconds(update, parameters.alpha, z, index)
            found["prior_update_seconds"] = microbatches * seconds
        if "generator_update" in names:
            update = jax.grad(generator_loss)
            seconds = _seconds(update, parameters.beta, parameters, x, z)
            found["generator_update_seconds"] = microbatches * seconds
        if "synthesis" in names:
            found["synthesis_milliseconds"] = 1000 * _seconds(draw, parameters, share)
        return found

    def flops(self) -> int:
        """Floating-point operations per step, counted from the shapes of the layers."""
        return describe(self._config, self._model)["flops_per_training_step"]

    def estimated_memory_bytes(self) -> int:
        """The memory that the step takes on one device, as `--mode=describe` estimates it."""
        share = sharding.shard_size(self._config.train.batch_size)
        return memory.estimate(self._config, self._model, share, math.inf)["total"]


def ceiling_gflops(precision: str) -> float:
    """Measures 10^9 operations per second of a large matrix product, over all devices together."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    side = CEILING_SIDE.get(jax.default_backend(), CEILING_SIDE_ELSEWHERE)
    matrix = jnp.ones((side, side), dtype)
    seconds = _seconds(lambda a: a @ a, matrix, choose=min)
    return 2 * side**3 / seconds / 1e9 * jax.local_device_count()


def peak_memory_bytes() -> int:
    """The peak memory of the device if it reports one, or else of this process."""
    statistics_of_device = jax.local_devices()[0].memory_stats()
    if statistics_of_device and "peak_bytes_in_use" in statistics_of_device:
        return statistics_of_device["peak_bytes_in_use"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_name() -> str:
    """The name of the devices, such as "1 x cpu (AMD EPYC), 2 threads"."""
    device = jax.local_devices()[0]
    name = f"{jax.local_device_count()} x {device.device_kind}"
    if device.platform != "cpu":
        return name
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name += f" ({models[0]})" if models else ""
    return f"{name}, {num_threads()} threads"


def num_threads() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds(
    function: Callable[..., Any], *args: Any, choose: Callable = statistics.median
) -> float:
    """The median (or the best) time per call of a compiled function, without the first call."""
    compiled = jax.jit(function).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < REPEATS_SECONDS:
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - begin)
    return choose(times)
