"""A fault while an IDX file is read is distinguished from a truncated file."""

import errno
import gzip

import pytest

from lfbm_jax.data import idx
from lfbm_jax.errors import UserError


def test_a_fault_that_passes_is_not_called_damage(tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(b"\0" * 8)
    with (
        pytest.raises(UserError, match=r"Input/output error.*may be intact") as raised,
        idx._opened(path),
    ):
        raise OSError(errno.EIO, "Input/output error")
    assert "truncated" not in str(raised.value)


def test_a_truncated_file_is_called_so(tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(range(100)))[:-12])
    with pytest.raises(UserError, match="is truncated"), idx._opened(path) as file:
        file.read()
