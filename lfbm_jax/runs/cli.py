"""The start and end of every command: sets up JAX, and turns errors into one line."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import jax
import ml_collections
from absl import app, flags

from lfbm_jax.devices import distributed
from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.files import terminal
from lfbm_jax.images.cache import default_root
from lfbm_jax.layers import precision
from lfbm_jax.runs import config_files, configuration, logs

USAGE_ERROR = 2
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
QUIET = flags.DEFINE_bool("quiet", False, "show only results, warnings and errors")
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")  # the user's, before `begin` adds to them


def begin(config: ml_collections.ConfigDict | None) -> None:
    """Sets up JAX and checks a command's config, before JAX looks for a device.

    Raises:
        UserError: the config has an invalid value; parts check their own settings later.
    """
    set_precision()
    keep_compiled_programs()
    if config is not None:
        configuration.check(config)
        set_determinism(config)


def set_precision() -> None:
    """Makes float32 products outside the networks full float32, on accelerators too."""
    jax.config.update("jax_default_matmul_precision", precision.PRECISIONS["float32"])


def set_determinism(config: ml_collections.ConfigDict) -> None:
    """Makes a GPU repeat runs bit for bit if the config's `deterministic` is true.

    XLA then uses slower, ordered reductions. CPUs and TPUs repeat runs anyway. XLA reads its flags
    when JAX first asks for a device, so this must be called earlier.
    """
    if config.deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()


def is_deterministic() -> bool:
    """Whether `set_determinism` has told XLA of this process to be deterministic."""
    return DETERMINISTIC in os.environ.get("XLA_FLAGS", "")


def keep_compiled_programs() -> None:
    """Caches compiled programs in the user's cache folder, so that the next run starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder.
    """
    # JAX makes the attributes of its config at run time.
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(default_root() / "xla"))


def run(
    main: Callable[..., None],
    config: Callable[[], ml_collections.ConfigDict | None] | None = None,
    argv: Sequence[str] | None = None,
    arguments: Sequence[str] | None = (),
) -> None:
    """Parses the command line and runs `main`; an error that a user can cause becomes one line.

    If a signal interrupted training, the run has been saved, and the process ends with the exit
    status of that signal.

    Args:
        main: the command. It is called with the config, if it takes one, and the positional
            arguments.
        config: reads the config after flags are parsed, as `given.config` does, or returns None if
            the flags ask for something that needs no config; None for a command without one.
        argv: the command line; None for the process's own.
        arguments: names of the positional arguments; None for any number of them.
    """

    def begin_and_run(words: Sequence[str]) -> None:
        if QUIET.value:
            terminal.be_quiet()
        with logs.collected():
            found = None if config is None else _read(config, sys.argv if argv is None else argv)
            begin(found)
            main(*(() if config is None else (found,)), *words[1:])

    try:
        app.run(
            begin_and_run,
            argv=None if argv is None else list(argv),
            flags_parser=lambda argv: _parse(argv, arguments),
        )
    except (UserError, FloatingPointError) as error:
        fail(str(error))
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(128 + interrupted.signum)
    except KeyboardInterrupt:
        sys.exit(130)
    except jax.errors.JaxRuntimeError as error:
        fault = distributed.memory_fault(error)
        if fault is None:
            raise
        fail(fault)
    except MemoryError as error:
        fail(f"out of memory: {error}" if str(error) else "out of memory")
    except OSError as error:
        if error.errno is None:
            raise
        place = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; make room, then run the same command again" if full else ""
        fail(os.strerror(error.errno) + place + remedy)


def fail(message: str) -> NoReturn:
    """Prints one line and ends the process with the exit status of a usage error."""
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(USAGE_ERROR)


def _read(
    config: Callable[[], ml_collections.ConfigDict | None], argv: Sequence[str]
) -> ml_collections.ConfigDict | None:
    """Reads the config; a file that cannot be loaded gives one line instead of a traceback."""
    try:
        found = config()
        if found is not None:
            _ = found.seed  # A file that cannot be loaded raises only when a value is read.
    except Exception as error:  # A config file may raise anything.
        _fail_to_read(error, argv)
    return found


def _fail_to_read(error: Exception, argv: Sequence[str]) -> NoReturn:
    """Ends the process with a line about a config that cannot be read or changed as asked."""
    # What ml_collections raises, and absl for the flags of a config that was not given.
    is_lookup = isinstance(error, KeyError | AttributeError | flags.UnrecognizedFlagError)
    unknown = config_files.unknown_setting(argv) if is_lookup else None
    fail(unknown or str(error) or type(error).__name__)


def _parse(argv: Sequence[str], arguments: Sequence[str] | None) -> Sequence[str]:
    """Parses flags with absl; a wrong flag gives one line instead of a traceback.

    `--config` may name an experiment, such as svhn:smoke, instead of its file.
    """
    try:
        rest = flags.FLAGS(config_files.in_command(argv))
    except Exception as error:  # A config file may raise anything.
        _fail_to_read(error, argv)
    if arguments is None:
        return rest
    count = len(rest) - 1
    if count > len(arguments):
        fail(f"{rest[len(arguments) + 1]!r} is not a flag; flags start with --")
    if count < len(arguments):
        fail(f"{arguments[count]} is missing")
    return rest
