"""Settings of a config that reach JAX and XLA before any device is looked for."""

import pytest


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
