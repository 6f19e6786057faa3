"""Agreement of devices: results that differ only in rounding pass, and wrong ones do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.runs import agreement
from tests.builders import small_config


def faults(found, expected, precision):
    errors = agreement.errors(found, expected, precision)
    return {name for name, error in errors.items() if error > agreement.BOUNDS[name].roundings}


@pytest.fixture(scope="module")
def computed():
    """computed(precision, library, prior_bits) -> the figures that this CPU computes.

    library: whether to use the convolutions of other platforms. prior_bits: bits of the significand
    after the leading one that the prior's parameters keep, to imitate products of low precision.
    """
    config = small_config()
    parameters = agreement.parameters(config)

    def computed(precision="float32", library=False, prior_bits=23):
        config.precision = precision
        alpha = jax.tree.map(
            lambda leaf: jax.lax.reduce_precision(leaf, 8, prior_bits), parameters.alpha
        )
        with pytest.MonkeyPatch.context() as patch:
            if library:
                choose = lambda *arguments, cpu, default: default(*arguments)  # noqa: E731
                patch.setattr(jax.lax, "platform_dependent", choose)
            return agreement.figures(config, parameters._replace(alpha=alpha))

    return computed


@pytest.fixture(scope="module")
def expected(computed):
    return computed()


def test_other_forms_and_precisions_agree_within_their_rounding(computed, expected):
    assert not faults(computed(library=True), expected, "float32")
    found = computed("bfloat16")
    assert not faults(found, expected, "bfloat16")
    # The results do differ, so the bounds above are not met trivially.
    assert "chain" in faults(found, expected, "float32")
    assert "log p(z)" not in faults(found, expected, "float32"), "the prior is always float32"


def test_a_prior_in_tensorfloat32_is_found(computed, expected):
    found = computed(prior_bits=10)
    assert "log p(z)" in faults(found, expected, "tensorfloat32")


def test_errors_are_counted_in_roundings():
    expected = {name: [np.full(4, 2.0), np.full(3, 1.0)] for name in agreement.BOUNDS}
    found = {name: [np.full(4, 2.0), np.full(3, 1 + 2**-9)] for name in agreement.BOUNDS}
    errors = agreement.errors(found, expected, "tensorfloat32")
    assert errors.pop("log p(z)") == 2**14
    assert errors.pop("chain") == 1  # the median of 0 and 2
    assert set(errors.values()) == {2.0}
    found["log p(x given z)"][0][1] = np.nan
    assert agreement.errors(found, expected, "bfloat16")["log p(x given z)"] == np.inf


def test_figures_survive_the_file(tmp_path):
    figures = {"log p(z)": [jnp.ones(()), jnp.zeros(3)], "chain": [jnp.arange(2.0)] * 12}
    agreement.save(figures, tmp_path / "figures.npz")
    jax.tree.map(np.testing.assert_array_equal, agreement.load(tmp_path / "figures.npz"), figures)
