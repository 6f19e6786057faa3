"""The same features and distances as pytorch-fid, from one weights file and folders of images.

    pip install pytorch-fid torchvision
    launch/test --slow tests/peers/test_pytorch_fid.py
"""

import functools

import numpy as np
import pytest
from PIL import Image

from lfbm_jax.metrics import frechet, inception_weights
from lfbm_jax.metrics.features import Summary
from tests import pytorch_writer
from tests.metrics import random_inception

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("pytorch_fid.fid_score", reason="needs pytorch-fid", exc_type=ImportError)
import pytorch_fid.fid_score  # noqa: E402
import pytorch_fid.inception  # noqa: E402

pytestmark = pytest.mark.slow


def images(seed, count, side, channels):
    """Smooth random images, so that some are more alike than others."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    return np.stack([
        np.asarray(
            Image.fromarray(image.squeeze()).resize((side, side), Image.Resampling.BICUBIC)
        ).reshape(side, side, channels)
        for image in coarse
    ])


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """Ours; pytorch-fid gets the same file instead of its download."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    pytorch_writer.save(path, random_inception.state_dict(), legacy=True)
    load = functools.partial(torch.load, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: load())
        yield inception_weights.load(inception_weights.Weights(path, "0"))


@pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1), (320, 3)])
def test_features_and_distance(extractor, side, channels, tmp_path):
    sets = {"one": images(0, 24, side, channels), "other": images(1, 20, side, channels) // 2}
    summaries, peers = {}, {}
    peer = pytorch_fid.inception.InceptionV3([3])
    for name, pictures in sets.items():
        folder = tmp_path / name
        folder.mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture.squeeze()).save(folder / f"{i:03d}.png")
        summaries[name] = Summary.of(extractor, [pictures], len(pictures))
        files = sorted(folder.iterdir())
        peers[name] = pytorch_fid.fid_score.get_activations(
            files, peer, batch_size=20, num_workers=0
        )
        ours = summaries[name].features
        spread = np.linalg.norm(peers[name] - peers[name].mean(axis=0))
        error = np.linalg.norm(ours - peers[name]) / spread
        print(f"{side} x {side} x {channels}, {name}: feature error {error:.1e} of their spread")
        assert error < 1e-3
        np.testing.assert_allclose(
            summaries[name].gaussian.covariance, np.cov(peers[name], rowvar=False),
            atol=1e-3 * np.abs(ours).var(),
        )
        summaries[name].save(tmp_path / f"{name}.npz")
    found = frechet.frechet_distance(summaries["one"].gaussian, summaries["other"].gaussian)
    theirs = pytorch_fid.fid_score.calculate_fid_given_paths(
        [str(tmp_path / "one"), str(tmp_path / "other")], 20, "cpu", 2048, num_workers=0
    )
    from_our_files = pytorch_fid.fid_score.calculate_fid_given_paths(
        [str(tmp_path / "one.npz"), str(tmp_path / "other.npz")], 20, "cpu", 2048
    )
    print(f"Frechet distance {found:.6f}, of pytorch-fid {theirs:.6f}, from our files"
          f" {from_our_files:.6f}")
    assert found == pytest.approx(theirs, rel=1e-3)
    assert found == pytest.approx(from_our_files, rel=1e-3)
