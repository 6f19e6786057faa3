"""The page on adding a prior, in the package's README: its two files work as they stand there."""

import importlib
import re
import sys

import jax
import numpy as np
import pytest

from lfbm_jax import priors
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build
from tests import test_contracts, trial
from tests.builders import ROOT, experiment

NAME = "gaussian_mixture"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The page's module, added to the package as if it lay there, and the text of its config."""
    text = (ROOT / "lfbm_jax" / "README.md").read_text(encoding="utf-8")
    page = text[text.index("## Adding a prior") : text.index("## Speed")]
    prior, config = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / f"{NAME}.py").write_text(prior, encoding="utf-8")
    monkeypatch.setattr(priors, "__path__", [*priors.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"lfbm_jax.priors.{NAME}", raising=False)
    importlib.invalidate_caches()
    yield config
    sys.modules.pop(f"lfbm_jax.priors.{NAME}", None)
    vars(priors).pop(NAME, None)


@pytest.mark.parametrize("dtype", test_contracts.TOLERANCE)
def test_it_keeps_the_contract(files, dtype):
    with jax.enable_x64(dtype == "float64"):
        test_contracts.test_prior(NAME, np.dtype(dtype))


def test_it_integrates_to_one_and_samples_from_its_density(files):
    test_contracts.test_normalized_prior_integrates_to_one_and_samples_from_its_density(NAME)


def test_its_config_trains(files, tmp_path):
    scope = {}
    exec(compile(files, "README.md", "exec"), scope)
    config = scope["get_config"]("smoke")
    assert config.prior.to_dict() == {"name": NAME, "num_components": 20}
    config.data.cache_dir = str(tmp_path / "cache")
    trained = trial.train_as(config, tmp_path / "run")
    assert trained.sample(4, seed=0).z.shape == (4, config.model.latent_dim)


def test_a_mixture_of_none_is_refused(files):
    config = experiment("digits", f"prior={NAME}")
    config.prior.num_components = 0
    with pytest.raises(UserError, match=r"prior\.num_components=0"):
        build.part(config, "prior", latent_dim=4)
