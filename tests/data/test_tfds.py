"""The real TFDS builders, fed by hand with the original files; needs the extra `tfds`."""

import gzip
import shutil
import time

import numpy as np
import pytest

from lfbm_jax.data.idx import SPLITS

pytest.importorskip("tensorflow_datasets", reason="needs pip install 'lfbm_jax[tfds]'")

# The network is made to refuse at once, so that nothing is ever downloaded.
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
                        "http://127.0.0.1:9") | {"NO_PROXY": None, "no_proxy": None}

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from lfbm_jax import main
main.run(sys.argv)
"""


def prepare(name, cache, *more):
    return [
        "-m",
        "lfbm_jax.main",
        f"--config=configs/{name}.py",
        "--config.data.source=tfds",
        f"--config.data.cache_dir={cache}",
        "--mode=prepare",
        *more,
    ]


@pytest.mark.slow
def test_fashion_mnist_from_the_original_files_then_training_without_tensorflow(
    run_python, shared_data, tmp_path
):
    """The files' checksums are those that TFDS has on record; it would accept no others."""
    files, cache = shared_data / "fashion_mnist", tmp_path / "cache"
    done = run_python(
        prepare("fashion_mnist", cache, f"--config.data.manual_dir={files}"), env=OFFLINE
    )
    assert "train: 60000 images of shape (28, 28, 1)" in done.stdout
    (folder,) = cache.glob("fashion_mnist-*")
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    begin = 0
    for prefix in SPLITS.values():
        raw = gzip.decompress((files / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        original = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        # TFDS shuffles the order of the examples, so the sets are compared.
        ours = images[begin : begin + len(original)]
        assert sorted(map(hash, map(bytes, ours))) == sorted(map(hash, map(bytes, original)))
        begin += len(original)
    assert begin == len(images)
    np.testing.assert_array_equal(np.bincount(labels), [7000] * 10)

    program = tmp_path / "train.py"
    program.write_text(WITHOUT_TENSORFLOW)
    shutil.rmtree(cache / "tfds")
    arguments = prepare("fashion_mnist", cache, f"--config.data.manual_dir={files}")[2:-2]
    trained = run_python(
        [
            program,
            *arguments,
            f"--workdir={tmp_path / 'run'}",
            "--config.train.num_steps=2",
            "--config.train.batch_size=4",
            "--config.inference.num_steps=2",
            "--config.tasks=()",
        ],
        env=OFFLINE,
    )
    assert "done; look at" in trained.stdout


def test_other_files_than_the_original_ones_are_refused(run_python, shared_data, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(shared_data / "fashion_mnist", files)
    spoilt = files / "t10k-labels-idx1-ubyte.gz"
    spoilt.write_bytes(gzip.compress(gzip.decompress(spoilt.read_bytes()) + b"\0"))
    done = run_python(
        prepare("fashion_mnist", tmp_path / "cache", f"--config.data.manual_dir={files}"),
        env=OFFLINE,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "data.manual_dir" in error
    assert "the original 5,148" in error
    assert "t10k-labels-idx1-ubyte.gz" in error
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["celeba64", "mnist"])
def test_without_network_the_message_comes_at_once(name, run_python, tmp_path):
    begin = time.monotonic()
    done = run_python(prepare(name, tmp_path / "cache"), env=OFFLINE, check=False)
    assert time.monotonic() - begin < 150  # TFDS alone would try for over 200 s
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "--config.data.manual_dir=FOLDER" in error
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "cache").glob(f"{name}*")) == []
