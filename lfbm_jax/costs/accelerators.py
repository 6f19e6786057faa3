"""Describes accelerators for which programs can be compiled on any machine.

A target is written NAME or NAME:N (N chips of one host), and for a TPU also NAME:GRID (all chips of
a slice, such as v5e:4x4). Instead of NAME it may be a file with the properties of a GPU, as XLA
itself writes them (`gpu_device_info { ... }`). XLA's repository has such files in
xla/backends/gpu/target_config/specs.
"""

import dataclasses
import importlib.util
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import topologies

from lfbm_jax.errors import UserError

# How many bfloat16 passes a TPU needs for a float32 matrix product, for each `precision`.
# A GPU uses its vector units for float32 and its tensor cores for the others.
TPU_PASSES = {"float32": 6, "tensorfloat32": 3, "bfloat16": 1}
# Multiply-adds in TensorFloat-32 per core and clock of a GPU, by compute capability, for the
# fastest GPU of each generation; bfloat16 doubles them. Source: peak rates of the data sheets (see
# GPUS), divided by cores and clock.
TENSOR_CORE = {(8, 0): 512, (8, 6): 256, (8, 9): 128, (9, 0): 1024, (10, 0): 2048}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One chip.

    Attributes:
        name: the name of the chip.
        memory_bytes: the size of its main memory.
        bandwidth: the bandwidth of that memory, in bytes per second.
        peak: floating-point operations per second in matrix products, by `precision`; some may be
            missing for a GPU that is read from a file.
        gpu: XLA's description of a GPU; "" for a TPU.
    """

    name: str
    memory_bytes: float
    bandwidth: float
    peak: Mapping[str, float]
    gpu: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices for which a program is compiled.

    Attributes:
        accelerator: the chip.
        devices: descriptions of the chips, which JAX accepts as if they were devices.
    """

    accelerator: Accelerator
    devices: tuple[jax.Device, ...]


def _tpu(name: str, tera: float, memory_gb: float, bandwidth_gb: float) -> Accelerator:
    """A TPU, given its bfloat16 rate in 10^12 operations per second, its GB and GB per second."""
    peak = {precision: tera * 1e12 / passes for precision, passes in TPU_PASSES.items()}
    return Accelerator(name, memory_gb * 1e9, bandwidth_gb * 1e9, peak)


def _gpu(
    name: str,
    *,
    memory: int,
    bandwidth: float,
    tera: tuple[float, float, float],
    capability: int,
    cores: int,
    lanes: int,
    clock: float,
    cache: int,
    shared: int,
) -> Accelerator:
    """An NVIDIA GPU.

    Args:
        name: the name that its driver reports.
        memory: the size of its main memory in bytes.
        bandwidth: the bandwidth of that memory in bytes per second.
        tera: 10^12 operations per second in float32, TensorFloat-32 and bfloat16 (no sparsity).
        capability: the major number of its compute capability.
        cores: the number of streaming multiprocessors.
        lanes: the number of float32 units per core.
        clock: the clock rate in GHz.
        cache: the size of the second-level cache in bytes.
        shared: bytes of shared memory per core; a block may take all but 1,024.
    """
    description = f"""
gpu_device_info {{
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {shared - 1024}
  shared_memory_per_core: {shared}
  core_count: {cores}
  fpus_per_core: {lanes}
  clock_rate_ghz: {clock}
  l2_cache_size: {cache}
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth:.0f}
  cuda_compute_capability {{ major: {capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""
    peak = dict(zip(TPU_PASSES, (1e12 * rate for rate in tera), strict=True))
    return Accelerator(name, memory, bandwidth, peak, description)


KIB = 1024
MIB = 1024 * KIB
# Sources: for rates and memory, NVIDIA's data sheets of the SXM modules (A100 80GB, H100, H200),
# without sparsity; for cores, clocks and caches, its architecture papers (Ampere, Hopper), which
# agree with XLA's own descriptions.
AMPERE: dict[str, Any] = {
    "tera": (19.5, 156, 312),
    "capability": 8,
    "cores": 108,
    "lanes": 64,
    "clock": 1.41,
    "cache": 40 * MIB,
    "shared": 164 * KIB,
}
HOPPER: dict[str, Any] = {
    "tera": (67, 494.7, 989.4),
    "capability": 9,
    "cores": 132,
    "lanes": 128,
    "clock": 1.98,
    "cache": 50 * MIB,
    "shared": 228 * KIB,
}
GPUS = {
    "a100": _gpu("NVIDIA A100-SXM4-80GB", memory=85_100_068_864, bandwidth=2.039e12, **AMPERE),
    "h100": _gpu("NVIDIA H100 80GB HBM3", memory=84_978_434_048, bandwidth=3.35e12, **HOPPER),
    "h200": _gpu("NVIDIA H200 141GB HBM3e", memory=151_397_597_184, bandwidth=4.8e12, **HOPPER),
}
# Source: docs.cloud.google.com/tpu/docs/v5e, v5p and v6e, figures per chip.
TPUS = {
    "v5e": _tpu("TPU v5e", 197, 16, 819),
    "v5p": _tpu("TPU v5p", 459, 95, 2765),
    "v6e": _tpu("TPU v6e", 918, 32, 1638),
}
# Without these, libtpu spends a long time asking Google's cloud which TPU this is, and complains.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
NAMES = (*GPUS, *TPUS)
HOST_GRID = {"v5e": (2, 2), "v5p": (2, 2, 1), "v6e": (2, 2)}  # The smallest slice: one host.


def look_for_none() -> None:
    """Keeps JAX from looking for accelerators. Must be called before JAX first asks for a device.

    On a machine without accelerators, the compilers' packages would otherwise report them missing,
    and the package for GPUs would not even register.
    """
    jax.config.update("jax_platforms", "cpu")


def find(target: str) -> Target:
    """Returns the chips that a target names.

    Args:
        target: the target, written as the docstring of this module describes.

    Raises:
        UserError: there is no such target, or the compiler's package is not installed.
    """
    name, _, chips = target.partition(":")
    if name in TPUS:
        return Target(TPUS[name], _tpus(target, name, chips or "1"))
    if name in GPUS:
        accelerator = GPUS[name]
    elif pathlib.Path(name).is_file():
        accelerator = read_gpu(pathlib.Path(name))
    else:
        raise UserError(
            f"--target={target}: use one of {', '.join(NAMES)}, or a file with a GPU's properties;"
            " followed by :N for N chips of one host, or for a TPU by a slice such as :4x4"
        )
    return Target(accelerator, _gpus(target, accelerator, chips or "1"))


def _gpus(target: str, accelerator: Accelerator, count: str) -> tuple[jax.Device, ...]:
    if not re.fullmatch("[1-9][0-9]*", count):
        raise UserError(f"--target={target}: {count!r} is not a number of GPUs, such as 8")
    if not any(importlib.util.find_spec(f"jax_cuda{major}_plugin") for major in (12, 13)):
        version = jax.__version__
        raise UserError(
            f"--target={target}: the compiler for GPUs is not installed; pip install --no-deps"
            f" jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version}"
        )
    try:
        described = topologies.get_topology_desc(
            target, "cuda", target_config=accelerator.gpu, topology=f"1x1x{count}"
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--target={target}: {error}") from error
    return tuple(described.devices)


def _tpus(target: str, name: str, chips: str) -> tuple[jax.Device, ...]:
    host = HOST_GRID[name]
    grid = chips if "x" in chips else "x".join(map(str, host))
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", chips):
        raise UserError(f"--target={target}: {chips!r} is neither a number nor a grid, such as 4x4")
    if "x" not in chips and int(chips) > math.prod(host):
        raise UserError(
            f"--target={target}: one host has {math.prod(host)} chips; name a slice, such as 4x4"
        )
    if not importlib.util.find_spec("libtpu"):
        raise UserError(
            f"--target={target}: the compiler for TPUs is not installed; pip install"
            f" 'jax[tpu]=={jax.__version__}'"
        )
    for variable, value in TPU_ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        described = topologies.get_topology_desc(f"{name}:{grid}", "tpu")
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--target={target}: {error}") from error
    return tuple(described.devices[: None if "x" in chips else int(chips)])


def read_gpu(path: pathlib.Path) -> Accelerator:
    """Reads XLA's description of a GPU; peak rates follow from its cores and their clock."""
    text = path.read_text(encoding="utf-8", errors="replace")

    def read(field: str, after: str = ":") -> float:
        found = re.search(rf"\b{field}{after}\s*([\d.]+)", text)
        if found is None:
            raise UserError(
                f"--target={path}: {field} is missing; write it as XLA does, in gpu_device_info"
            )
        return float(found[1])

    cores_per_second = read("core_count") * read("clock_rate_ghz") * 1e9
    peak = {"float32": 2 * cores_per_second * read("fpus_per_core")}
    minor = re.search(r"\bcuda_compute_capability\s*\{[^}]*\bminor:\s*(\d+)", text)
    major = read("cuda_compute_capability", r"\s*\{\s*major:")
    capability = int(major), int(minor[1]) if minor else 0
    if capability in TENSOR_CORE:
        peak["tensorfloat32"] = 2 * cores_per_second * TENSOR_CORE[capability]
        peak["bfloat16"] = 2 * peak["tensorfloat32"]
    named = re.search(r'\bdevice_description_str:\s*"([^"]*)"', text)
    memory, bandwidth = read("device_memory_size"), read("memory_bandwidth")
    return Accelerator(named[1] if named else path.name, memory, bandwidth, peak, text)
