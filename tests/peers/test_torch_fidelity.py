"""The same features, FID and KID as torch-fidelity's, from one weights file and folders of images.

    launch/test --slow tests/peers/test_torch_fidelity.py

torch-fidelity copies TensorFlow's graph where this package follows pytorch-fid: it resizes as
TensorFlow 1 did, so images here are 299 x 299 already, and it maps 0..255 to -1..127/128 where
`to_unit_range` reaches 1, so the extractor here is given its scale.
"""

import numpy as np
import pytest

from lfbm_jax.metrics import frechet, inception
from lfbm_jax.metrics.features import Extractor, Summary
from tests import pytorch_writer
from tests.metrics import random_inception
from tests.peers.smooth_images import smooth_images, write

torch = pytest.importorskip("torch", reason="needs PyTorch")
try:
    import tests.peers.torchvision_alone  # noqa: F401
except ModuleNotFoundError as error:
    pytest.skip(f"needs torchvision ({error})", allow_module_level=True)
torch_fidelity = pytest.importorskip("torch_fidelity", reason="needs torch-fidelity")
from torch_fidelity import metric_kid  # noqa: E402

pytestmark = pytest.mark.slow

COUNT = 24


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(our summaries of two sets of images, torch-fidelity's features of them, and its FID)."""
    weights = tmp_path_factory.mktemp("weights") / "weights.pth"
    state = random_inception.state_dict()
    pytorch_writer.save(weights, state, legacy=True)
    extractor = Extractor(
        lambda parameters, x: inception.features(parameters, (x + 1) * (127.5 / 128) - 1),
        inception.parameters_of(state),
        inception.FEATURES,
        batch_size=20,
    )
    sets = [smooth_images(seed, COUNT, inception.SIDE, 3) for seed in (0, 1)]
    folders = [write(tmp_path_factory.mktemp("images"), images) for images in sets]
    # The caches keep the features, in the order of the files where these are not shuffled.
    cache = tmp_path_factory.mktemp("cache")
    metrics = torch_fidelity.calculate_metrics(
        **{f"input{i}": str(folder) for i, folder in enumerate(folders, start=1)},
        **{f"input{i}_cache_name": f"set{i}" for i in (1, 2)},
        fid=True,
        feature_extractor_weights_path=str(weights),
        samples_shuffle=False,
        save_cpu_ram=True,  # No worker processes, which would be forked beside JAX's threads.
        cache_root=str(cache),
        batch_size=COUNT,
        cuda=False,
        verbose=False,
    )
    theirs = [torch.load(*cache.glob(f"set{i}-*-features-2048.pt")).numpy() for i in (1, 2)]
    ours = [Summary.of(extractor, [images], len(images)) for images in sets]
    return ours, theirs, metrics["frechet_inception_distance"]


def test_features(found):
    for ours, theirs in zip(*found[:2], strict=True):
        error = np.linalg.norm(ours.features - theirs)
        spread = np.linalg.norm(theirs - theirs.mean(axis=0))
        print(f"feature error {error / spread:.1e} of their spread")
        assert error < 1e-4 * spread


def test_frechet_distance(found):
    (one, other), _, theirs = found
    distance = frechet.frechet_distance(one.gaussian, other.gaussian)
    print(f"FID {distance:.8g}, of torch-fidelity {theirs:.8g}")
    assert distance == pytest.approx(theirs, rel=1e-4)


def kernel_distances(one, other, subsets, size):
    """(mean, deviation over subsets) of ours, and of torch-fidelity's in float64."""
    ours = frechet.kernel_distance(one, other, subsets, size)
    doubles = [torch.as_tensor(features, dtype=torch.float64) for features in (one, other)]
    theirs = metric_kid.kid_features_to_metric(
        *doubles, kid_subsets=subsets, kid_subset_size=size, verbose=False
    )
    for name, (mean, deviation) in ("ours", ours), ("torch-fidelity", theirs.values()):
        print(f"KID of {subsets} subsets of {size}, {name}: {mean:.8g} +- {deviation:.2g}")
    return ours, tuple(theirs.values())


def test_kernel_distance(found):
    """Of all images at once, where the subsets that are drawn do not matter."""
    ours, theirs = kernel_distances(*found[1], subsets=1, size=COUNT)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)


def test_kernel_distance_of_subsets():
    """Mean and deviation, within 4.5 standard errors of what each side draws."""
    random, subsets = np.random.default_rng(0), 4000
    one, other = np.maximum(random.normal(size=(2, COUNT, 10)) @ random.normal(size=(10, 300)), 0)
    ours, (mean, deviation) = kernel_distances(one, other + 0.2, subsets, COUNT // 2)
    assert ours[0] == pytest.approx(mean, abs=4.5 * deviation * np.sqrt(2 / subsets))
    assert ours[1] == pytest.approx(deviation, rel=4.5 / np.sqrt(subsets))
