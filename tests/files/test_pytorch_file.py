"""Files written by torch.save, read without PyTorch."""

import pickle
import zipfile

import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.files import pytorch_file
from tests import pytorch_writer

FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def state_dict():
    random = np.random.default_rng(0)
    return {
        "empty": np.zeros((0, 2), np.float32),
        "layer.weight": random.normal(size=(3, 2, 1)).astype(np.float32),
        "layer.bias": random.normal(size=3),
        "steps": np.array(7),
    }


@FORMATS
def test_arrays_come_back(legacy, tmp_path):
    path = tmp_path / "weights.pth"
    pytorch_writer.save(path, state_dict(), legacy)
    found = pytorch_file.read(path)
    assert list(found) == list(state_dict())
    for name, array in state_dict().items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@FORMATS
def test_what_pytorch_itself_writes(legacy, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    base = torch.arange(24.0).reshape(4, 6)
    layer = torch.nn.BatchNorm1d(3)
    content = {
        "epoch": 3,
        "net": layer.state_dict(),  # an OrderedDict with an attribute
        "views": [base.T, base[1:3, ::2], base[:0]],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = pytorch_file.read(path)
    assert found["epoch"] == 3
    for name, tensor in content["net"].items():
        np.testing.assert_array_equal(found["net"][name], tensor.numpy())
    for ours, theirs in zip(found["views"], content["views"], strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    np.testing.assert_array_equal(found["parameter"], [1, 1])
    np.testing.assert_array_equal(found["half"].astype(float), [1.5, -2.0])


@FORMATS
def test_damaged_files_are_named(legacy, tmp_path):
    path = tmp_path / "weights.pth"
    pytorch_writer.save(path, state_dict(), legacy)
    whole = path.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"weights\.pth.*get it again"):
            pytorch_file.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        pytorch_file.read(tmp_path / "missing.pth")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_called(tmp_path):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Malicious(str(trace))))
    with pytest.raises(UserError, match=r"wants to call \S+open,"):
        pytorch_file.read(path)
    path.write_bytes(pickle.dumps(Malicious(str(trace))))
    with pytest.raises(UserError, match=r"wants to call \S+open,"):
        pytorch_file.read(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3, 2), (2, 2)), (1, (6,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,))],
)
def test_tensors_stay_inside_their_storage(offset, shape, strides):
    with pytest.raises(ValueError, match="tensor"):
        pytorch_file._tensor(np.zeros(6, np.float32), offset, shape, strides)
