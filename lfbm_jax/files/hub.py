"""Explains what goes wrong when files are fetched from Hugging Face's hub."""

import contextlib
from collections.abc import Iterator

from lfbm_jax.errors import UserError


@contextlib.contextmanager
def explained(where: str, kind: str, remedy: str) -> Iterator[None]:
    """Turns every error of the hub's package into a UserError.

    Args:
        where: what could not be fetched, the beginning of the error.
        kind: what may be gated, in the plural.
        remedy: what the user can do without the hub.
    """
    try:
        yield
    except Exception as error:  # It also raises the errors of its HTTP client.
        said = next(iter(str(error).strip().splitlines()), "")
        raise UserError(
            f"{where} could not be fetched from the hub ({type(error).__name__}: {said}): check the"
            f" name and the network (log in for gated {kind} with: hf auth login), or {remedy}"
        ) from error
