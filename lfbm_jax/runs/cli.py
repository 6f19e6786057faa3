"""What every command shares: flags, the precision of products, and errors as one line."""

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
from lfbm_jax.runs import logs

USAGE_ERROR = 2
CONFIG_IS_MISSING = "--config is missing: give an experiment, such as --config=configs/digits.py"


def set_precision() -> None:
    """Float32 products are full float32 on accelerators too, outside of the config's networks."""
    jax.config.update("jax_default_matmul_precision", precision.PRECISIONS["float32"])


def set_determinism(config: ml_collections.ConfigDict) -> None:
    """`deterministic=true`: a GPU repeats a run bit for bit, by XLA's slower ordered reductions.

    CPUs and TPUs do so anyway. XLA reads this when JAX first asks for a device, so it must come
    before that.
    """
    if config.deterministic:
        flags_of_xla = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags_of_xla} --xla_gpu_deterministic_ops=true".strip()


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that the next run starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(default_root() / "xla"))


def run(
    main: Callable[[Sequence[str]], None],
    config: flags.FlagHolder | None,
    argv: Sequence[str] | None = None,
    arguments: Sequence[str] | None = (),
    needs_config: bool = True,
) -> None:
    """Parses the command line and runs `main`; every error that a user can cause is one line.

    An interrupted training has been saved; the process ends with the signal's status.

    Args:
        main: the command.
        config: its flag --config; None where it has none.
        argv: the command line; None for the process's own.
        arguments: names of what it takes besides flags; `main` gets them after the program's name.
            None: any number.
        needs_config: whether the command can do nothing without --config.
    """

    def parse(argv: Sequence[str]) -> Sequence[str]:
        rest = _parse_flags(config, argv, arguments)
        if config is not None and needs_config and config.value is None:
            fail(CONFIG_IS_MISSING)
        return rest

    def quiet_main(arguments: Sequence[str]) -> None:
        with logs.collected():
            main(arguments)

    try:
        app.run(quiet_main, argv=argv, flags_parser=parse)
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


def _parse_flags(
    config: flags.FlagHolder | None, argv: Sequence[str], arguments: Sequence[str] | None
) -> Sequence[str]:
    """Absl's flag parsing, with one line instead of a traceback for a wrong flag."""
    try:
        rest = flags.FLAGS(list(argv))
        if config is not None and config.value is not None:
            # A config file that cannot be loaded says so only when it is looked at.
            _ = config.value.seed
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
