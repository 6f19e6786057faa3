"""What every command begins with and how it ends: settings of JAX, and errors as one line."""

import errno
import os
import sys
from collections.abc import Callable, Sequence

import jax
import ml_collections
from absl import app, flags

from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.images.cache import default_root
from lfbm_jax.layers import precision
from lfbm_jax.runs import configuration, logs

USAGE_ERROR = 2
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")  # the user's, before `begin` adds to them


def begin(config: ml_collections.ConfigDict | None) -> None:
    """Checks a command's config and sets JAX up for it, before JAX looks for a device.

    Raises:
        UserError: a value that no part checks by itself is wrong.
    """
    set_precision()
    keep_compiled_programs()
    if config is not None:
        configuration.check(config)
        set_determinism(config)


def set_precision() -> None:
    """Float32 products are full float32 on accelerators too, outside of the config's networks."""
    jax.config.update("jax_default_matmul_precision", precision.PRECISIONS["float32"])


def set_determinism(config: ml_collections.ConfigDict) -> None:
    """`deterministic=true`: a GPU repeats a run bit for bit, by XLA's slower ordered reductions.

    CPUs and TPUs do so anyway. XLA reads this when JAX first asks for a device, so it must come
    before that.
    """
    if config.deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()


def is_deterministic() -> bool:
    """Whether XLA has been told so in this process."""
    return DETERMINISTIC in os.environ.get("XLA_FLAGS", "")


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that the next run starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(default_root() / "xla"))


def run(
    main: Callable[..., None],
    config: Callable[[], ml_collections.ConfigDict] | None = None,
    argv: Sequence[str] | None = None,
    arguments: Sequence[str] | None = (),
) -> None:
    """Parses the command line and runs `main`; every error that a user can cause is one line.

    An interrupted training has been saved; the process ends with the signal's status.

    Args:
        main: the command; called with the config, where it has one, and what else stands on the
            command line besides flags.
        config: reads the config once flags are parsed, as `given.config` does; None for a command
            that has none.
        argv: the command line; None for the process's own.
        arguments: names of what it takes besides flags; None for any number.
    """

    def begin_and_run(words: Sequence[str]) -> None:
        with logs.collected():
            found = None if config is None else _read(config)
            begin(found)
            main(*(() if config is None else (found,)), *words[1:])

    try:
        app.run(begin_and_run, argv=argv, flags_parser=lambda argv: _parse(argv, arguments))
    except (UserError, FloatingPointError) as error:
        fail(str(error))
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(128 + interrupted.signum)
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError as error:
        fail(f"the memory does not suffice: {error}" if str(error) else "the memory is full")
    except OSError as error:
        if error.errno is None:
            raise
        place = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "; make room, then run the same command again" if full else ""
        fail(os.strerror(error.errno) + place + mend)


def fail(message: str) -> None:
    """Ends the process with the status of a usage error and one line."""
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(USAGE_ERROR)


def _read(config: Callable[[], ml_collections.ConfigDict]) -> ml_collections.ConfigDict:
    """The config, with one line instead of a traceback where its file cannot be loaded."""
    try:
        found = config()
        _ = found.seed  # A config file that cannot be loaded says so only when it is looked at.
    except Exception as error:  # A config file may raise anything.
        fail(str(error) or type(error).__name__)
    return found


def _parse(argv: Sequence[str], arguments: Sequence[str] | None) -> Sequence[str]:
    """Absl's flag parsing, with one line instead of a traceback for a wrong flag."""
    try:
        rest = flags.FLAGS(list(argv))
    except Exception as error:  # A config file may raise anything.
        fail(str(error) or type(error).__name__)
    if arguments is None:
        return rest
    count = len(rest) - 1
    if count > len(arguments):
        fail(f"{rest[len(arguments) + 1]!r} is not a flag; flags start with --")
    if count < len(arguments):
        fail(f"{arguments[count]} is missing")
    return rest
