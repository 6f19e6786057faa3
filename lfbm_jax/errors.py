"""How a command ends where it cannot go on: a user's mistake, or a signal."""


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
