"""The start and the end of every command."""

import json

import jax
import pytest
from absl.testing import flagsaver

from lfbm_jax import main
from lfbm_jax.runs import cli
from tests.builders import ROOT

# Every module at the top of the package that is a command, and the positional arguments of some.
COMMANDS = sorted(
    path.stem
    for path in (ROOT / "lfbm_jax").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
ARGUMENTS = {"convert": ["checkpoint.pth"], "tables": ["runs"]}
WITHOUT_CONFIG = {"tables", "gpu_check"}
# Runs each command, with its main function replaced by one that prints how it was set up.
EACH_COMMAND = """
import json, os, runpy, sys
import jax
from lfbm_jax.runs import cli, grid

usual = cli.run
def run(main, config=None, argv=None, arguments=()):
    def found(*given):
        print(json.dumps({
            "arguments": [word for word in given if isinstance(word, str)],
            "precision": jax.config.jax_default_matmul_precision,
            "deterministic": "--xla_gpu_deterministic_ops=true" in os.environ["XLA_FLAGS"],
            "cache": jax.config.jax_compilation_cache_dir,
        }), flush=True)
    usual(found, config, argv, arguments)
cli.run = run

for name, *words in json.loads(sys.argv[1]):
    if not os.fork():
        sys.argv = [name, *words]
        status = 0
        try:
            runpy.run_module(f"lfbm_jax.{name}", run_name="__main__")
        except SystemExit as ended:
            status = ended.code or 0
        finally:
            os._exit(status)
    print(json.dumps(os.waitstatus_to_exitcode(os.wait()[1])), flush=True)
"""


@pytest.fixture
def begin(run_python, tmp_path):
    """begin(*flags) -> the lines that all commands print; those with a config get the flags."""

    def begin(*flags):
        script = tmp_path / "each_command.py"
        script.write_text(EACH_COMMAND)
        words = [
            [name, *ARGUMENTS.get(name, []), *(flags if name not in WITHOUT_CONFIG else [])]
            for name in COMMANDS
        ]
        done = run_python([script, json.dumps(words)], env={"JAX_COMPILATION_CACHE_DIR": None})
        return list(map(json.loads, done.stdout.splitlines())), done.stderr

    return begin


def test_every_command_begins_alike(begin):
    """Precision, determinism and the compilation cache are set before a command's main runs."""
    with_config = {"main", "compare", "anomaly", "sweep", "benchmark", "convert"}
    assert with_config | WITHOUT_CONFIG == {*COMMANDS}
    lines, _ = begin("--config=configs/digits.py:smoke", "--config.deterministic=True")
    for name, found, status in zip(COMMANDS, lines[::2], lines[1::2], strict=True):
        assert status == 0, name
        assert found["arguments"] == ARGUMENTS.get(name, []), name
        assert found["precision"] == "highest", name
        assert found["cache"].endswith("lfbm_jax/xla"), name
        assert found["deterministic"] == (name not in WITHOUT_CONFIG), name


def test_every_command_checks_its_config(begin):
    lines, errors = begin("--config=configs/digits.py:smoke", "--config.precision=float23")
    with_config = [name for name in COMMANDS if name not in WITHOUT_CONFIG]
    assert [line for line in lines if isinstance(line, int)].count(2) == len(with_config)
    assert errors.count("error: precision='float23': did you mean 'float32'?\n") == len(with_config)


@pytest.mark.parametrize("deterministic", (True, False))
def test_deterministic_reaches_xla_which_knows_the_flag(deterministic, run_python):
    """XLA ends the process at an unknown flag."""
    done = run_python(
        f"""
        import os
        from tests.builders import small_config
        from lfbm_jax.runs import cli
        config = small_config()
        config.deterministic = {deterministic}
        cli.set_determinism(config)
        import jax
        jax.devices()
        print(os.environ["XLA_FLAGS"])
        """
    )
    assert ("--xla_gpu_deterministic_ops=true" in done.stdout) == deterministic
    assert "--xla_force_host_platform_device_count" in done.stdout, "earlier flags are kept"


# JAX's platforms and XLA's log level as they are for a user.
AS_A_USER = {"JAX_PLATFORMS": None, "TF_CPP_MIN_LOG_LEVEL": None}


def test_the_terminal_shows_one_line_for_a_mistake_and_no_other_packages_words(
    run_python, tmp_path
):
    command = ["-m", "lfbm_jax.main", "--mode=sample", f"--workdir={tmp_path / 'run'}"]
    done = run_python([*command, "--config=configs/digits.py:smoke"], env=AS_A_USER, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_other_packages_lines_go_to_a_file(run_python, tmp_path):
    """On a machine without a TPU, for example, JAX logs that when it first looks for devices."""
    second = tmp_path / "second"
    second.mkdir()
    program = f"""
        import logging, pathlib, warnings
        from lfbm_jax.runs import cli, logs

        def main():
            logging.getLogger("elsewhere").warning("before the folder is known")
            logs.write_to(pathlib.Path({str(tmp_path)!r}))
            logging.getLogger("elsewhere").warning("after it")
            warnings.warn("a warning of Python's")
            print("our words")
            logs.write_to(pathlib.Path({str(second)!r}))
            logging.getLogger("elsewhere").warning("in the next run")

        cli.run(main, None, ["program"])
    """
    done = run_python(program, env=AS_A_USER)
    assert (done.stdout, done.stderr) == ("our words\n", "")
    text = (tmp_path / "packages.log").read_text()
    for line in ("elsewhere: before the folder is known", "elsewhere: after it", "of Python's"):
        assert line in text
    assert "in the next run" not in text
    assert (second / "packages.log").read_text().endswith("elsewhere: in the next run\n")


def test_a_devices_full_memory_is_one_line_that_names_the_setting(capsys):
    def main():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nof 9 TiB")

    with pytest.raises(SystemExit) as ended:
        cli.run(main, None, ["program"])
    assert ended.value.code == cli.USAGE_ERROR
    err = capsys.readouterr().err
    assert err.startswith("error: a device is out of memory (RESOURCE_EXHAUSTED: Out of memory)")
    assert "train.microbatch_size" in err and err.count("\n") == 1


@pytest.mark.parametrize("message", ("", "Unable to allocate 9 TiB"))
def test_full_memory_is_one_line(message, capsys):
    def main():
        raise MemoryError(message)

    with pytest.raises(SystemExit) as ended:
        cli.run(main, None, ["program"])
    assert ended.value.code == cli.USAGE_ERROR
    err = capsys.readouterr().err
    assert err.startswith("error: out of memory") and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    (
        (["--step=3"], "--step=3: --mode=train does not read it; leave it out, or use"
                       " --mode=evaluate or sample"),
        (["--mode=evaluate", "--profile=2"], "--profile=2: --mode=evaluate does not read it"),
        (["--mode=prepare", "--num=5"], "--num=5: --mode=prepare does not read it"),
    ),
)  # fmt: skip
def test_a_flag_of_another_mode_is_refused(words, message, tmp_path, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit):
        main.run(["main", "--config=configs/digits.py:smoke", f"--workdir={tmp_path}/a", *words])
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
