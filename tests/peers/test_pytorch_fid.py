"""The same features and distances as pytorch-fid, from one weights file and folders of images.

    launch/test --slow tests/peers/test_pytorch_fid.py
"""

import functools

import numpy as np
import pytest

from lfbm_jax.metrics import frechet, inception_weights
from lfbm_jax.metrics.features import Summary
from tests import pytorch_writer
from tests.metrics import random_inception
from tests.peers.smooth_images import smooth_images, write

torch = pytest.importorskip("torch", reason="needs PyTorch")
try:
    import tests.peers.torchvision_alone  # noqa: F401
except ModuleNotFoundError as error:
    pytest.skip(f"needs torchvision ({error})", allow_module_level=True)
pytest.importorskip("pytorch_fid.fid_score", reason="needs pytorch-fid", exc_type=ImportError)
import pytorch_fid.fid_score  # noqa: E402
import pytorch_fid.inception  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """Ours; pytorch-fid gets the same file instead of its download."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    pytorch_writer.save(path, random_inception.state_dict(), legacy=True)
    load = functools.partial(torch.load, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: load())
        yield inception_weights.load(inception_weights.Weights(path, "0"))


@pytest.fixture(scope="module")
def both(extractor, tmp_path_factory):
    """(ours, pytorch-fid's) of a folder of such images: a Summary, features [N, 2048]."""
    peer = pytorch_fid.inception.InceptionV3([3])

    def both(seed, count, side, channels):
        pictures = smooth_images(seed, count, side, channels)
        folder = write(tmp_path_factory.mktemp("images"), pictures)
        theirs = pytorch_fid.fid_score.get_activations(
            sorted(folder.iterdir()), peer, batch_size=20, num_workers=0
        )
        return Summary.of(extractor, [pictures], count), theirs

    return both


@pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1), (320, 3)])
def test_features(both, side, channels):
    ours, theirs = both(0, 24, side, channels)
    spread = np.linalg.norm(theirs - theirs.mean(axis=0))
    error = np.linalg.norm(ours.features - theirs) / spread
    print(f"{side} x {side} x {channels}: feature error {error:.1e} of their spread")
    assert error < 1e-3
    covariance = np.cov(theirs, rowvar=False)
    np.testing.assert_allclose(
        ours.gaussian.covariance, covariance, atol=1e-3 * np.diag(covariance).mean()
    )


def test_distance(both, tmp_path):
    """Also from our statistics files; few images, whose covariances are singular."""
    (one, first), (other, second) = both(0, 24, 32, 3), both(1, 20, 32, 3)
    found = frechet.frechet_distance(one.gaussian, other.gaussian)
    one.save(tmp_path / "one.npz")
    other.save(tmp_path / "other.npz")
    loaded = [
        pytorch_fid.fid_score.compute_statistics_of_path(str(tmp_path / name), None, 1, 2048, "cpu")
        for name in ("one.npz", "other.npz")
    ]
    own = [(features.mean(axis=0), np.cov(features, rowvar=False)) for features in (first, second)]
    for statistics in (own, loaded):
        theirs = pytorch_fid.fid_score.calculate_frechet_distance(*statistics[0], *statistics[1])
        print(f"Frechet distance {found:.8g}, of pytorch-fid {theirs:.8g}")
        assert found == pytest.approx(theirs, rel=1e-3)
