"""Imports packages that only the extras of this package install."""

import importlib
from typing import Any

from lfbm_jax.errors import UserError


def imported(name: str, needed_by: str, extra: str) -> Any:
    """Imports a module that needs a package of an extra.

    Args:
        name: the module's full name.
        needed_by: what needs it, the beginning of the error.
        extra: the extra that installs it.

    Raises:
        UserError: a package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{needed_by} needs {error.name}, which is not installed:"
            f" pip install 'lfbm_jax[{extra}]'"
        ) from error
