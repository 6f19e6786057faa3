"""Locates, checks, downloads and loads the file with the weights of the FID network."""

import hashlib
import http.client
import pathlib
import re
import urllib.error
import urllib.request
from typing import NamedTuple

import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic, pytorch_file, terminal
from lfbm_jax.images.cache import blaming_cache_dir, cache_root, folder
from lfbm_jax.metrics import inception
from lfbm_jax.metrics.features import Extractor

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # the beginning of the genuine file's SHA-256
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
DOWNLOAD = "download"
TIMEOUT = 10  # seconds without an answer
BLOCK = 2**20
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
BATCH_SIZE = 50


class Weights(NamedTuple):
    """The path of a weights file and its SHA-256 in hexadecimal digits."""

    path: pathlib.Path
    sha256: str

    @property
    def genuine(self) -> bool:
        """Whether these are the weights that are used for FIDs."""
        return self.sha256.startswith(SHA256)


def locate(config: ml_collections.ConfigDict) -> Weights:
    """The weights file that `metrics.inception_weights` names, after a check of its checksum.

    Args:
        config: a whole config. The setting is a path, or "download" for a copy in the folder of
            the data caches, which is downloaded if it is missing.

    Raises:
        UserError: the file does not exist or cannot be downloaded, or its SHA-256 does not begin
            with the digits at the end of its name, PyTorch's convention.
    """
    setting = config.metrics.inception_weights
    if setting == DOWNLOAD:
        path = cache_root(config.data) / FILE
        if not path.exists():
            _download(path)
    else:
        path = folder(setting)
    named = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    found = _sha256(path)
    if named and not found.startswith(named[1]):
        raise UserError(
            f"metrics.inception_weights={setting!r}: {path} has the SHA-256 {found[:8]}..., not"
            f" {named[1]}... as its name says: it is damaged or is another file; get it again"
        )
    return Weights(path, found)


def load(weights: Weights) -> Extractor:
    """The network with the weights of a file; raises a UserError for other weights."""
    state = pytorch_file.read(weights.path)
    try:
        parameters = inception.parameters_of(state)
    except UserError as error:
        raise UserError(f"{weights.path} is no state dict of the FID network: {error}") from error
    return Extractor(inception.features, parameters, inception.FEATURES, BATCH_SIZE)


def _sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a weights file; raises a UserError if it does not exist."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"metrics.inception_weights: cannot read {path} ({error.strerror}): give the path of"
            f" {FILE}, or 'download'"
        ) from error


def _download(path: pathlib.Path) -> None:
    """Downloads the weights; the file appears at `path` complete or not at all."""
    remedy = f"give the path of a copy of {FILE} with --config.metrics.inception_weights=FILE"
    with blaming_cache_dir(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic.replacing(path) as temporary:
                _fetch(temporary)
                if not _sha256(temporary).startswith(SHA256):
                    raise UserError(f"the file at {URL} does not have the right checksum: {remedy}")
        except NETWORK_ERRORS as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"{URL} cannot be fetched ({reason}): {remedy}") from error


def _fetch(path: pathlib.Path) -> None:
    with urllib.request.urlopen(URL, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        total = int(answer.headers.get("Content-Length", 0)) or None
        with terminal.bar(total=total, desc=f"fetching {FILE}", unit="B", unit_scale=True) as bar:
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
