"""The exceptions that end a command early: a mistake by the user, or a signal."""

import collections
import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A mistake by the user, explained in one line: the field, its value, and how to fix it.

    Every command prints that line and exits with status 2.
    """


class Misfit(UserError):
    """A file that cannot be used. Files of the same kind can be reported together in one message.

    Attributes:
        kind: what is wrong with it, worded to follow a count: "2 of mode L" or "2 not square".
        detail: details of this file; "" if `kind` says everything.
        remedy: what the user can do about every file of this kind.
    """

    def __init__(self, where: str, kind: str, detail: str, remedy: str):
        super().__init__(f"{where} is {kind}{f' ({detail})' if detail else ''}: {remedy}")
        self.kind, self.detail, self.remedy = kind, detail, remedy


def summary(misfits: Mapping[str, Misfit]) -> str:
    """Groups misfits by remedy and kind, each kind with its count and the name of an example."""
    remedies: dict[str, dict[str, list[tuple[str, str]]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for name, misfit in misfits.items():
        remedies[misfit.remedy][misfit.kind].append((name, misfit.detail))
    parts = []
    for remedy, kinds in remedies.items():
        counts = [f"{len(found)} {kind} ({': '.join(filter(None, found[0]))})"
                  for kind, found in kinds.items()]
        parts.append(f"{', '.join(counts)}: {remedy}")
    return "; ".join(parts)


class Interrupted(Exception):
    """A signal asked the run to stop, and the run has been saved.

    Attributes:
        signum: the number of the signal.
        step: the last saved step.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(f"saved at step {step}; run the same command to resume")
        self.signum = signum
        self.step = step


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggests the closest known word, or lists all known words if none is close."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(known)


def check_at_least_one(section: str, **settings: int) -> None:
    """Raises a UserError for the first setting of a config section that is below 1."""
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"{section}.{name}={value}: must be at least 1")


def check_positive(section: str, **settings: float) -> None:
    """Raises a UserError for the first setting of a config section that is not positive."""
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{section}.{name}={value}: must be positive")
