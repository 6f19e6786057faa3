"""Runs Cosmic Ray over the modules that hold maths, with the tests that `modules.toml` names.

    pip install cosmic-ray
    python tests/mutation/run.py --session=/tmp/mutation.sqlite

Cosmic Ray makes the mutants and keeps their results; run again with the same session, this
resumes where it stopped, and Cosmic Ray's own reports (`cr-report`, `cr-html`) read the session.
Only the tests are started here: in a copy of the repository, so that the original files are never
touched, and by forking a process that has imported the libraries, which takes longer than most
tests.
"""

import argparse
import collections
import importlib
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib

from cosmic_ray import mutating, plugins
from cosmic_ray.commands import init as make_mutants
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
LIBRARIES = ("flax.linen", "optax", "distrax", "orbax.checkpoint", "scipy.stats", "sklearn.mixture",
             "matplotlib.figure", "ml_collections", "tensorboardX")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--session", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, help="of mutants, instead of that of modules.toml")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the modules' paths")
    arguments = parser.parse_args()
    session = arguments.session.resolve()
    settings = tomllib.loads((HERE / "modules.toml").read_text())
    settings["tests"] = {
        module: tests
        for module, tests in settings["tests"].items()
        if any(part in module for part in arguments.only)
    }
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, use_db(session) as db:
        go_to_a_copy(pathlib.Path(folder))
        if not db.num_work_items:
            draw(db, settings, arguments.count or settings["count"])
        runner = Runner(pathlib.Path(folder))
        by_module = collections.defaultdict(list)
        for item in db.pending_work_items:
            by_module[item.mutations[0].module_path.as_posix()].append(item)
        for module, tests in settings["tests"].items():
            if not by_module[module]:
                continue
            began = time.monotonic()
            outcome, output = runner.run(tests, timeout=1800)
            if outcome != TestOutcome.SURVIVED:
                sys.exit(f"{module}: its tests fail without any mutation\n{output[-3000:]}")
            timeout = 60 + 4 * (time.monotonic() - began)
            for item in sorted(by_module[module], key=lambda item: item.mutations[0].start_pos):
                db.set_result(item.job_id, try_mutant(item, runner, tests, timeout))
        summarise(db, settings)


def go_to_a_copy(folder):
    """Makes a copy of the code the working directory, and the place that Python imports from."""
    copy = folder / "repository"
    leave = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("configs", "launch", "lfbm_jax", "tests"):
        shutil.copytree(REPO / name, copy / name, ignore=leave)
    for path in REPO.glob("*.*"):
        if path.is_file():
            shutil.copy(path, copy)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True  # a mutant may be as old, to the second, as the file it replaces
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads that a fork would lose
    for name in ("tests.conftest", *LIBRARIES):  # the first sets what JAX reads when imported
        importlib.import_module(name)


def draw(db, settings, count):
    """Fills a session with all mutants and marks those that are not drawn as skipped."""
    make_mutants([pathlib.Path(module) for module in settings["tests"]], db, {})
    wanted = re.compile("core/(" + "|".join(settings["operators"]) + ")")
    every = {item.job_id: item.mutations[0] for item in db.work_items}
    suitable = [job for job, made in every.items() if wanted.fullmatch(made.operator_name)]
    suitable.sort(key=lambda job: (every[job].start_pos, every[job].operator_name))
    suitable.sort(key=lambda job: str(every[job].module_path))
    drawn = set(random.Random(settings["seed"]).sample(suitable, min(count, len(suitable))))
    db.set_multiple_results(
        [job for job in every if job not in drawn], WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
    )
    print(f"{len(drawn)} of {len(suitable)} mutants drawn with seed {settings['seed']}", flush=True)


def try_mutant(item, runner, tests, timeout):
    """Writes a mutant into the copy, runs the tests and puts the file back."""
    (mutation,) = item.mutations
    operator = plugins.get_operator(mutation.operator_name)(**mutation.operator_args)
    path, began = mutation.module_path, time.monotonic()
    with mutating.use_mutation(path, operator, mutation.occurrence) as (before, after):
        outcome, output = runner.run(tests, timeout)
        diff = "\n".join(mutating._make_diff(before, after, path))
    name = mutation.operator_name.removeprefix("core/")
    seconds = time.monotonic() - began
    print(f"{outcome.value} {seconds:4.0f} s  {path}:{mutation.start_pos[0]} {name}", flush=True)
    if outcome == TestOutcome.SURVIVED:
        print("\n".join(line for line in diff.splitlines() if line[:1] in "+-"), flush=True)
    return WorkResult(WorkerOutcome.NORMAL, output[-5000:], outcome, diff)


class Runner:
    """Runs tests in a forked process.

    Compiled programs are shared by all runs, since JAX keeps them by their contents; nothing else
    that the tests write is.
    """

    def __init__(self, folder):
        self._folder = folder
        (folder / "jax").mkdir()

    def run(self, tests, timeout):
        """Whether the tests pass (SURVIVED) or not, and what they print."""
        session = pathlib.Path(tempfile.mkdtemp(dir=self._folder))
        (session / "jax").symlink_to(self._folder / "jax")
        log = session / "log"
        child = os.fork()
        if not child:
            os.setsid()
            with log.open("w") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            os.environ["LFBM_JAX_TEST_SESSION_FOLDER"] = str(session)
            pytest = importlib.import_module("pytest")
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
            sys.stdout.flush()
            os._exit(status)
        status = wait(child, timeout)
        output = log.read_text(errors="replace")
        shutil.rmtree(session)
        return (TestOutcome.KILLED if status else TestOutcome.SURVIVED), output


def wait(child, timeout):
    """The exit status of a process, or that of a process killed when its time is up."""
    deadline = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.02)


def summarise(db, settings):
    counts = collections.defaultdict(collections.Counter)
    for item, result in db.completed_work_items:
        if result.worker_outcome == WorkerOutcome.NORMAL:
            module = item.mutations[0].module_path.as_posix()
            counts[module][result.test_outcome] += 1
    total = collections.Counter()
    for module in settings["tests"]:
        total.update(counts[module])
        row = counts[module]
        print(f"{row[TestOutcome.KILLED]:4d} of {row.total():4d} killed  {module}")
    print(f"{total[TestOutcome.KILLED]:4d} of {total.total():4d} killed")


if __name__ == "__main__":
    main()
