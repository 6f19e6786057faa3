"""How a command ends where it cannot go on: a user's mistake, or a signal."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Its text is one line: which field, which value, and how to mend it.

    `lfbm_jax.main` prints it and exits with status 2.
    """


class Misfit(UserError):
    """A file that cannot be used; what many have in common can be told in one message.

    Attributes:
        kind: what it is, as in "2 of mode L" or "2 not square".
        detail: the particulars of this one; "" where `kind` says all.
        remedy: what the user can do about every file of this kind.
    """

    def __init__(self, where: str, kind: str, detail: str, remedy: str):
        super().__init__(f"{where} is {kind}{f' ({detail})' if detail else ''}: {remedy}")
        self.kind, self.detail, self.remedy = kind, detail, remedy


class Interrupted(Exception):
    """A signal asked the run to stop; it has been saved.

    Attributes:
        signum: which signal.
        step: the last saved step.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(f"saved at step {step}, run the same command to go on")
        self.signum = signum
        self.step = step


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The near match of a misspelt word, or all words that would do."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(known)


def check_at_least_one(section: str, **settings: int) -> None:
    """UserError naming the first of a config section's settings that is below 1."""
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"{section}.{name}={value}: must be at least 1")


def check_positive(section: str, **settings: float) -> None:
    """UserError naming the first of a config section's settings that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{section}.{name}={value}: must be positive")
