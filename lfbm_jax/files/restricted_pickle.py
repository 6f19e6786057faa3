"""Reads pickles in which only listed functions may be called.

A pickle can name any Python function to be called. A reader of one kind of file lists the few that
such files need, and replaces them with its own.
"""

import pickle
from collections.abc import Mapping
from typing import Any


class NotAllowedError(Exception):
    """The message names what the pickle wanted to call."""


class Unpickler(pickle.Unpickler):
    """Unpickles containers, numbers and text; a subclass adds what else its files may hold.

    Attributes:
        allowed: the replacement of each function or class that a pickle may name, by module and
            name.
    """

    allowed: Mapping[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise NotAllowedError(f"{module}.{name}")
        return self.allowed[module, name]
