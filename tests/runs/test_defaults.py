"""Default settings of parts and tasks, with sources, so that none changes by accident."""

import pytest

from lfbm_jax.runs import build

ENERGY = {"hidden_width": 200, "num_layers": 3, "num_steps": 60, "step_size": 0.4}
DEFAULTS = {
    ("prior", "glow"): {"num_steps": 5, "hidden_width": 64},  # section 4.1
    ("prior", "realnvp"): {"num_steps": 5, "hidden_width": 64},
    ("prior", "nice"): {"num_steps": 5, "hidden_width": 64},
    ("prior", "spline"): {  # Durkan et al. (2019), section 5.2 and its code
        "num_steps": 5,
        "hidden_width": 64,
        "num_bins": 8,
        "bound": 3.0,
    },
    ("prior", "energy"): ENERGY,  # Pang et al. (2020)
    ("inference", "langevin"): {"num_steps": 20, "step_size": 0.1, "noise": True},  # Table 9
    ("inference", "persistent"): {"num_steps": 20, "step_size": 0.1, "noise": True},
    ("inference", "encoder"): {"noise": True},
    ("inference", "iaf"): {"flow_steps": 5, "hidden_width": 200, "noise": True},
    ("inference", "sampler"): {  # ours
        "kernel": "mala",
        "num_warmup": 100,
        "num_steps": 20,
        "step_size": 0.1,
        "num_leapfrog": 10,
    },
    ("inference", "sri"): {"noise": False, "tune_every": 20, "tune_images": 8},
    ("inference", "learned_start"): {"num_steps": 10},  # Cui and Han (2023)
    ("inference", "damc"): {  # ours
        "num_steps": 10,
        "diffusion_steps": 10,
        "num_draws": 6,
        "num_features": 128,
        "hidden_width": 128,
        "num_layers": 4,
    },
    ("prior", "fce"): {  # the flow's as for glow, the rest ours
        "num_steps": 5,
        "hidden_width": 64,
        "tilt_width": 200,
        "num_proposals": 32,
    },
    ("prior", "diffusion"): {  # ours
        "hidden_width": 128,
        "num_layers": 4,
        "blur": 0.1,
        "num_steps": 20,
        "num_draws": 6,
    },
    ("prior", "fitted_glow"): {
        "num_steps": 5,
        "hidden_width": 64,
        "num_epochs": 10,
        "batch_size": 100,
        "learning_rate": 1e-3,
    },
    ("prior", "layered"): {"num_layers": 1, "hidden_width": 128},
    ("prior", "mixture"): {"num_components": 10},
    ("prior", "second_stage"): {
        "hidden_width": 256,
        "num_epochs": 50,
        "batch_size": 100,
        "learning_rate": 1e-3,
    },
    ("objective", "meg"): {  # the published networks of MNIST
        "layers": ((64, 5, 2, 2), (128, 5, 2, 2), (256, 5, 2, 2), (512, 5, 2, 2)),
        "width": 128,
        "hidden_width": 512,
        "gradient_weight": 0.128,
        "energy_updates": 5,
    },
    ("objective", "bigan"): {  # the published convolutions of MNIST
        "layers": ((64, 4, 2, 1), (64, 4, 2, 1)),
        "width": 512,
        "hidden_width": 1024,
        "score_weight": 0.1,
    },
    ("objective", "ebm_vae"): {  # ours
        "layers": ((32, 4, 2, 1), (64, 4, 2, 1)),
        "width": 128,
        "hidden_width": 256,
    },
    ("objective", "rae"): {
        "regularizer": "gradient_penalty",
        "regularizer_weight": 1e-3,
        "latent_weight": 1e-2,
    },
}


@pytest.mark.parametrize(("section", "name"), DEFAULTS)
def test_defaults_are_these(section, name):
    found = build.defaults(section, name)
    expected = DEFAULTS[section, name]
    assert {key: found[key] for key in expected} == expected


TASKS = {
    "prior_fit": {"num_images": 2000, "batch_size": 100},
    "posterior_gap": {
        "num_images": 20,
        "num_steps": (1, 2, 5, 10, 20, 50, 100, 200),
        "num_chains": 256,
        "num_temperatures": 500,
        "num_annealed": 32,
        "batch_size": 4,
        "num_monitored": 0,
    },
    "mixing": {
        "kernels": ("mala", "hmc", "nuts", "mclmc"),
        "num_images": 20,
        "num_chains": 4,
        "num_warmup": 500,
        "num_draws": 500,
        "batch_size": 4,
    },
    "anomaly": {"num_images": 0, "batch_size": 100, "num_chains": 1, "sigma": 0.0},
    "classify": {"num_images": 10_000, "num_epochs": 5, "batch_size": 100},
    "generate": {"num_images": 1000, "batch_size": 100, "fid_num_images": 50_000},  # section 4.1
    "inpaint": {
        "num_images": 1000,
        "batch_size": 100,
        "num_completions": 10,
        "mask": "center_box",
    },
    "interpolate": {"num_images": 10, "num_steps": 12},
    "reconstruct": {"num_images": 0, "batch_size": 100},
    "recover": {"num_images": 1000, "batch_size": 100},
}


def test_every_task_has_its_settings_here():
    assert TASKS.keys() == set(build.names("tasks"))


@pytest.mark.parametrize("name", TASKS)
def test_settings_of_tasks_are_these(name):
    assert build.task(name).settings == TASKS[name]
