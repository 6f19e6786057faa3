"""The errors that a user can cause."""


class UserError(Exception):
    """Its text is one line: which field, which value, and how to mend it.

    `lfbm_jax.main` prints it and exits with status 2.
    """
