"""Pickles of arrays are read, including Python 2's, and nothing in a pickle is ever called."""

import collections
import pickle

import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.files import numpy_pickle
from tests.data.originals import python2_pickle

RANDOM = np.random.default_rng(0)
CONTENT = {
    b"data": RANDOM.integers(0, 256, (3, 5), dtype=np.uint8),
    b"floats": RANDOM.normal(size=(2, 3)).astype(">f8"),
    b"columns": np.asfortranarray(RANDOM.integers(0, 9, (2, 3))),
    b"labels": [3, 1, 2],
    b"names": (b"one", b"\xe9t\xe9"),
    b"empty": np.zeros((0, 4), np.int32),
}


@pytest.mark.parametrize("dump", [python2_pickle, lambda content: pickle.dumps(content, 2)])
def test_arrays_come_back(dump, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(dump(CONTENT))
    found = numpy_pickle.read(path)
    assert found.keys() == CONTENT.keys()
    assert found[b"labels"] == [3, 1, 2] and found[b"names"] == CONTENT[b"names"]
    for name in (b"data", b"floats", b"columns", b"empty"):
        np.testing.assert_array_equal(found[name], CONTENT[name], strict=True)


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("nested", [lambda call: call, lambda call: {b"data": [call]}])
def test_nothing_is_called(protocol, nested, tmp_path):
    path, mark = tmp_path / "batch", tmp_path / "called"
    path.write_bytes(pickle.dumps(nested(Calls(open, str(mark), "w")), protocol))
    with pytest.raises(UserError, match=r"batch wants to call (io|_io)\.open,"):
        numpy_pickle.read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([{}], dtype=object), "an array of object"),
        (np.zeros(2, [("a", "u1")]), "V1|void"),
        (collections.OrderedDict(), r"collections\.OrderedDict"),
        (Calls(bytes.decode, b"a"), "getattr"),
    ],
)
def test_other_objects_are_refused(content, said, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(UserError, match=f"batch wants to call .*({said}).*fetch the original file"):
        numpy_pickle.read(path)


def test_a_damaged_pickle_is_told_from_one_that_cannot_be_read(tmp_path):
    whole = pickle.dumps(CONTENT, 2)
    path = tmp_path / "batch"
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"\0" + whole):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not a complete pickle.*fetch it again"):
            numpy_pickle.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        numpy_pickle.read(tmp_path)
