"""Settings and helpers of every test.

Rank promotion raises, sockets other than loopback are blocked, seeds are fixed, and what the tests
write goes to temporary folders. XLA's compiled programs are kept for the session and shared with
the subprocesses, so that a program is compiled once, however often a test restarts it.
"""

import ipaddress
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SHARED_DATA = REPO.parent / "shared" / "data"
SESSION_FOLDER = "LFBM_JAX_TEST_SESSION_FOLDER"

# Read by JAX, matplotlib and TensorFlow when they are imported, here and in subprocesses.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Compiling takes most of the tests' time; their small programs need no fast machine code.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
os.environ["MPLBACKEND"] = "agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from lfbm_jax.devices import host_memory  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--kill-seed", type=int, default=0, help="of the moments of random kills")


def pytest_configure(config):
    if SESSION_FOLDER not in os.environ:  # with xdist, the workers share the main process's folder
        folder = tempfile.mkdtemp(prefix="lfbm_jax-tests-")
        os.environ[SESSION_FOLDER] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.add_cleanup(lambda: os.environ.pop(SESSION_FOLDER, None))
    folder = Path(os.environ[SESSION_FOLDER])
    # The user's own caches are neither read nor written.
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ["TFDS_DATA_DIR"] = str(folder / "tfds")
    for name, value in {
        "jax_compilation_cache_dir": str(folder / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)
    jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _fixed_seeds():
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module", autouse=True)
def _memory_of_the_file():
    """Frees the memory of a file's compiled programs, which is gigabytes over a whole run."""
    yield
    jax.clear_caches()
    host_memory.release()


class BlockedSocketError(RuntimeError):
    """A test tried to reach beyond this machine."""


def _is_loopback(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


@pytest.fixture(scope="session", autouse=True)
def _loopback_only():
    """Lets this process's Python sockets reach only loopback and Unix addresses."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    create_connection, getaddrinfo = socket.create_connection, socket.getaddrinfo

    def check(host):
        if not _is_loopback(host):
            raise BlockedSocketError(f"tests may reach loopback only, not {host!r}")

    def check_address(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])

    def guarded_connect(self, address):
        check_address(self, address)
        return connect(self, address)

    def guarded_connect_ex(self, address):
        check_address(self, address)
        return connect_ex(self, address)

    def guarded_create_connection(address, *args, **kwargs):
        check(address[0])
        return create_connection(address, *args, **kwargs)

    def guarded_getaddrinfo(host, *args, **kwargs):
        if host:  # None and '' mean this machine
            check(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "create_connection", guarded_create_connection)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(scope="session")
def repo() -> Path:
    """The top folder of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the repository, which are only read."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the data sets of ../shared/data beside the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def python_environment():
    """`python_environment(devices=8, env={...})`: the variables for a Python subprocess.

    It sees `devices` simulated CPU devices, the repository's package and the session's compilation
    cache. In `env` a value of None removes a variable.
    """

    def environment(
        devices: int = 1, env: Mapping[str, str | None] | None = None
    ) -> dict[str, str]:
        flags = os.environ.get("XLA_FLAGS", "")
        flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", flags)
        variables = {
            **os.environ,
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}".strip(),
            "PYTHONPATH": str(REPO),
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        return {name: value for name, value in variables.items() if value is not None}

    return environment


@pytest.fixture(scope="session")
def run_python(python_environment):
    """`run_python(code_or_args, devices=8)` runs Python in a subprocess and returns how it ended.

    A string is a program, a list is the arguments of `python`, as in
    `run_python(["-m", "lfbm_jax.main", "--config=configs/digits.py:smoke", f"--workdir={path}"])`.
    It runs in the repository's top folder unless `cwd` says otherwise. An exit status other than 0
    fails the test and shows the output, unless `check` is False; so does running out of time.
    """

    def run(
        code_or_args: str | Sequence[str | os.PathLike],
        devices: int = 1,
        env: Mapping[str, str | None] | None = None,
        *,
        check: bool = True,
        cwd: str | os.PathLike | None = None,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        if isinstance(code_or_args, str):
            arguments = ["-c", textwrap.dedent(code_or_args)]
        else:
            arguments = [os.fspath(argument) for argument in code_or_args]
        shown = f"python {' '.join(arguments)}"[:300]
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                env=python_environment(devices, env),
                cwd=cwd or REPO,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as late:
            streams = [stream or b"" for stream in (late.stdout, late.stderr)]  # bytes, or text
            texts = [s if isinstance(s, str) else s.decode(errors="replace") for s in streams]
            tails = "\n--- stderr\n".join(text[-4000:] for text in texts)
            raise AssertionError(
                f"{shown}\nran longer than {timeout} s\n--- stdout\n{tails}"
            ) from None
        if check and done.returncode != 0:
            raise AssertionError(
                f"{shown}\nended with status {done.returncode}\n"
                f"--- stdout\n{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-4000:]}"
            )
        return done

    return run


@pytest.fixture
def start_processes(python_environment):
    """`start_processes(code_or_args, 2, devices=2)` starts processes of one run and returns them.

    Each has `devices` simulated devices; if that is a tuple, each has its own number of them. A
    program finds address, count and index in its arguments; a list of arguments, as for
    `lfbm_jax.main`, is given the flags. What still runs at the end of the test is killed.
    """
    started = []

    def start(code_or_args, processes, devices=1, env=None):
        devices = (devices,) * processes if isinstance(devices, int) else devices
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        for index in range(processes):
            if isinstance(code_or_args, str):
                arguments = ["-c", code_or_args, address, str(processes), str(index)]
            else:
                flags = f"--coordinator={address}", f"--num_processes={processes}"
                arguments = [*code_or_args, *flags, f"--process_id={index}"]
            started.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    env=python_environment(devices[index], env),
                    cwd=REPO,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return started[-processes:]

    yield start
    for process in started:
        process.kill()
        process.communicate()
