"""Settings of a config that reach JAX and XLA before any device is looked for."""

import pytest

from lfbm_jax.runs import cli


@pytest.mark.parametrize("deterministic", (True, False))
def test_deterministic_reaches_xla_which_knows_the_flag(deterministic, run_python):
    """An unknown flag would end the process when JAX starts."""
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


# With all of JAX's platforms asked for, and XLA's lines as a user has them.
AS_A_USER = {"JAX_PLATFORMS": None, "TF_CPP_MIN_LOG_LEVEL": None}


def test_the_terminal_shows_one_line_for_a_mistake_and_no_other_packages_words(
    run_python, tmp_path
):
    command = ["-m", "lfbm_jax.main", "--mode=sample", f"--workdir={tmp_path / 'run'}"]
    done = run_python([*command, "--config=configs/digits.py:smoke"], env=AS_A_USER, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_other_packages_lines_go_to_a_file(run_python, tmp_path):
    """Where this machine has no TPU, JAX says so when it first asks for devices."""
    program = f"""
        import logging, pathlib, warnings
        from lfbm_jax.runs import cli, logs

        def main(_):
            logging.getLogger("elsewhere").warning("before the folder is known")
            logs.write_to(pathlib.Path({str(tmp_path)!r}))
            logging.getLogger("elsewhere").warning("after it")
            warnings.warn("a warning of Python's")
            print("our words")

        cli.run(main, None, ["program"])
    """
    done = run_python(program, env=AS_A_USER)
    assert (done.stdout, done.stderr) == ("our words\n", "")
    text = (tmp_path / "packages.log").read_text()
    for line in ("elsewhere: before the folder is known", "elsewhere: after it", "of Python's"):
        assert line in text


@pytest.mark.parametrize("message", ("", "Unable to allocate 9 TiB"))
def test_full_memory_is_one_line(message, capsys):
    def main(_):
        raise MemoryError(message)

    with pytest.raises(SystemExit) as ended:
        cli.run(main, None, ["program"])
    assert ended.value.code == cli.USAGE_ERROR
    err = capsys.readouterr().err
    assert err.startswith("error: the memory") and message in err and err.count("\n") == 1
