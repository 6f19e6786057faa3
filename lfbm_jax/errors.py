"""How a command ends where it cannot go on: a user's mistake, or a signal."""


class UserError(Exception):
    """Its text is one line: which field, which value, and how to mend it.

    `lfbm_jax.main` prints it and exits with status 2.
    """


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
