"""The package of Hugging Face's hub, which only the extra `huggingface` installs."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from lfbm_jax.errors import UserError


def imported(name: str, needed_by: str) -> Any:
    """Imports a module that needs a package of the extra `huggingface`.

    Args:
        name: the module's full name.
        needed_by: what needs it, the beginning of the error.

    Raises:
        UserError: a package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{needed_by} needs {error.name}, which is not installed:"
                        " pip install 'lfbm_jax[huggingface]'") from error


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
