"""The paper's figures are shown only beside runs of its data, settings and protocol."""

import copy
import json

import pytest

from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import comparable, workdir
from tests.builders import experiment

FULL_SPLIT = {"svhn": 26_032, "cifar10": 10_000, "celeba64": 19_867}
LONG = 10**6


def beside(config, task, step=LONG, figures=None, **setup):
    config = config if isinstance(config, dict) else workdir.plain(config)
    report = {"task": task, "step": step, "figures": figures or {}, "setup": setup}
    return comparable.figures(config, report)


# The columns of Table 2 (MSE, FID); None: the paper prints no figure.
TABLE_2 = {
    "svhn": {
        "vae": (0.019, 46.78), "two_stage_vae": (0.019, 42.81), "rae": (0.014, 40.02),
        "sri": (0.018, 44.86), "sri_l5": (0.011, 35.23), "abp": (None, 49.71),
        "lebm": (0.008, 29.44), "lfbm_vae": (0.005, 24.96), "": (0.005, 23.64),
    },
    "cifar10": {
        "vae": (0.057, 106.37), "two_stage_vae": (0.056, 72.90), "rae": (0.027, 74.16),
        "sri": (None, None), "sri_l5": (None, None), "abp": (0.018, 90.30),
        "lebm": (0.020, 70.15), "lfbm_vae": (0.020, 69.70), "": (0.016, 66.41),
    },
    "celeba64": {
        "vae": (0.021, 65.75), "two_stage_vae": (0.021, 44.40), "rae": (0.018, 40.95),
        "sri": (0.020, 61.03), "sri_l5": (0.015, 47.95), "abp": (None, 51.50),
        "lebm": (0.013, 37.87), "lfbm_vae": (0.014, 33.64), "": (0.011, 33.64),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE_2)
def test_every_method_of_table_2_as_its_config_runs_it(name):
    """No figure would be shown if a config's settings differed from `paper_settings`."""
    for variants, (mse, fid) in TABLE_2[name].items():
        config = experiment(name, variants)
        found = beside(config, "reconstruct", figures={"num_images": FULL_SPLIT[name]})
        assert found == ({} if mse is None else {"mse": mse}), variants
        assert beside(config, "generate") == ({} if fid is None else {"fid": fid}), variants


@pytest.mark.parametrize(
    "variants",
    ("smoke", "vae,smoke", "long_run", "lebm,long_run", "abp,long_run",
     "persistent", "nice", "realnvp", "spline", "prior=realnvp", "prior=energy",
     "inference=encoder", "mala", "ae", "mask=random_box:12"),
)  # fmt: skip
def test_a_variant_that_is_not_the_papers_has_none_of_its_figures(variants):
    config = experiment("svhn", variants)
    for task in ("reconstruct", "generate", "recover", "inpaint"):
        assert beside(config, task) == {}


OVERRIDES = {
    "data.source": "image_folder",
    "data.name": "my_svhn",
    "data.image_size": 64,
    "data.crop": "center",
    "data.num_train": 1000,
    "data.exclude_labels": (1,),
    "data.horizontal_flip": True,
    "data.test_fraction": 0.1,
    "data.test_split": "train",
    "model.sigma": 0.2,
    "model.learned_sigma": True,
    "model.latent_dim": 2,
    "generator.layers": ((256, 4, 1, 0), (256, 4, 2, 1), (128, 4, 2, 1), (3, 4, 2, 1)),
    "prior.num_steps": 6,
    "prior.hidden_width": 128,
    "inference.num_steps": 21,
    "inference.step_size": 0.2,
    "inference.noise": False,
    "optimizer.generator.learning_rate": 5e-4,
    "optimizer.prior.decay_per_epoch": 0.99,
    "optimizer.generator.b1": 0.9,
    "optimizer.prior.clip_norm": 1.0,
    "optimizer.generator.warmup_steps": 10,
    "train.batch_size": 64,
    "train.prior_inference_updates": 2,
    "precision": "bfloat16",
}


@pytest.mark.parametrize("key", OVERRIDES)
def test_an_override_makes_the_papers_figures_go(key):
    config = copy.deepcopy(experiment("svhn"))
    config.update_from_flattened_dict({key: OVERRIDES[key]})
    assert beside(config, "reconstruct") == beside(config, "generate") == {}


@pytest.mark.parametrize(
    "override",
    (
        {"seed": 5},
        {"data.dir": "/elsewhere", "data.cache_dir": "/cache"},
        {"train.log_every": 7, "train.num_epochs": 150, "train.ema_decay": 0.9},
        {"precision": "tensorfloat32"},
        {"train.microbatch_size": 10, "deterministic": True},
    ),
)
def test_what_cannot_change_a_figure_leaves_them(override):
    config = copy.deepcopy(experiment("svhn"))
    config.update_from_flattened_dict(override)
    assert beside(config, "reconstruct") == {"mse": 0.005}


def test_evaluation_is_the_papers_too():
    config = copy.deepcopy(experiment("svhn"))
    config.eval_inference.num_steps = 50
    assert beside(config, "reconstruct") == {}
    assert beside(config, "generate") == {"fid": 23.64}, "samples do not depend on it"
    # It is unknown whether the authors ran 400 or 8,000 steps.
    assert beside(experiment("svhn", "authors_test_steps"), "reconstruct") == {"mse": 0.005}
    config = copy.deepcopy(experiment("svhn"))
    config.task.generate.fid_num_images = 10_000
    assert beside(config, "generate") == {}
    assert beside(config, "reconstruct") == {"mse": 0.005}


def test_reports_must_be_of_all_images():
    config = experiment("celeba64")
    assert beside(config, "reconstruct", figures={"num_images": 19_867}) == {"mse": 0.011}
    assert beside(config, "reconstruct", figures={"num_images": 19_962}) == {}, "the test split"
    everything = "train split, 162770 images (all)"
    assert beside(config, "generate", fid_reference=everything) == {"fid": 33.64}
    assert beside(config, "generate", fid_reference="train split, 1000 images (all)") == {}
    assert beside(config, "generate_averaged") == {}


@pytest.mark.parametrize(
    ("name", "step"), (("svhn", 115 * 733), ("cifar10", 93 * 500), ("celeba64", 71 * 1628))
)
def test_training_must_be_as_long_as_the_authors(name, step):
    """The steps are the published checkpoints' epochs times batches; the last may be smaller."""
    assert beside(experiment(name), "reconstruct", step)
    assert beside(experiment(name), "reconstruct", step - 1) == {}


@pytest.mark.parametrize(("name", "mse"), (("svhn", 0.005), ("cifar10", 0.016)))
def test_the_original_files_are_the_papers_data_and_copies_of_others_are_not(name, mse):
    figures = {"num_images": FULL_SPLIT[name]}
    original = experiment(name, "torchvision")
    assert beside(original, "reconstruct", figures=figures) == {"mse": mse}
    assert beside(experiment(name, "huggingface"), "reconstruct", figures=figures) == {}
    original.data.image_field = "x"
    assert beside(original, "reconstruct", figures=figures) == {}


def test_other_data_have_none():
    for name, variants in (("celeba64", "huggingface"), ("cifar10", "jpeg"),
                           ("cifar10", "jpeg,lebm"), ("mnist", ""), ("fashion_mnist", ""),
                           ("digits", ""), ("image_folder", "")):
        config = experiment(name, variants)
        assert beside(config, "reconstruct") == beside(config, "generate") == {}
    assert comparable.data_set(experiment("cifar10", "jpeg")) == "CIFAR-10 (JPEG)"
    assert comparable.data_set(experiment("svhn", "smoke")) == "made-up images, 32 x 32"


@pytest.mark.parametrize(
    ("variants", "mse", "fid"),
    (
        ("salt_and_pepper=0.5", 0.0317, 59.14),
        ("square=30,lebm", 0.0684, 51.59),
        ("abp,square=40", 0.0918, 184.53),
        ("vae,square=40", None, None),
        ("lfbm_vae,square=40", None, None),
        ("square=25", None, None),
        # LFBM's learning rate is fifteen times that of an energy prior.
        ("prior=energy,square=30", None, None),
    ),
)
def test_recovery_by_prior_and_inference(variants, mse, fid):
    config = experiment("celeba64", variants)
    figures = {"num_images": 10_000}
    expected = {} if mse is None else {"mse_hidden": mse}
    assert beside(config, "recover", figures=figures) == expected
    assert beside(config, "generate") == ({} if fid is None else {"fid": fid})
    assert beside(config, "recover", figures={"num_images": 1000}) == {}
    assert beside(config, "reconstruct") == {}


@pytest.mark.parametrize(
    ("variants", "fid"),
    (("", 75.20), ("lebm", 94.03), ("lfbm_vae", 129.65), ("abp", 102.61), ("vae", None)),
)
def test_table_13(variants, fid):
    config = experiment("celebahq256", variants)
    config.data.dir = "/the/users/folder"  # which the source needs
    assert beside(config, "generate") == ({} if fid is None else {"fid": fid})
    assert beside(config, "generate", fid_reference="train split, 300 images (all)") == {}


def test_table_3_is_beside_no_report():
    """Its columns may have been swapped or rescaled."""
    assert beside(experiment("celeba64"), "inpaint") == {}


def test_a_report_is_judged_by_what_it_was_measured_with():
    """Another command may have changed the config since."""
    config = workdir.plain(experiment("svhn"))
    figures = {"num_images": FULL_SPLIT["svhn"]}
    report = {"task": "reconstruct", "step": LONG, "figures": figures, "setup": {}}
    chain = config["eval_inference"]
    for num_steps, paper in ((chain["num_steps"], {"mse": 0.005}), (50, {})):
        report["measured_with"] = {"eval_inference": chain | {"num_steps": num_steps}}
        assert comparable.figures(config, report) == paper
    assert comparable.differences(config, [report]) == {"eval_inference.num_steps": 50}


@pytest.mark.parametrize(
    ("variants", "scored", "auprc"),
    (
        ("digit=4", 19_460, 0.812),
        ("digit=4,lebm", 19_460, 0.630),
        ("lebm,digit=1", 20_302, 0.336),
        ("digit=4", 10_000, None),  # the test split, which has another base rate
        ("digit=4", 13_888, None),
        ("digit=4,abp", 19_460, None),  # The paper's figure is impossible at this base rate.
        ("digit=4,vae", 19_460, None),
        ("digit=2", 19_460, None),
        ("digit=4,smoke", 19_460, None),
    ),
)
def test_anomaly_detection_by_method_and_base_rate(variants, scored, auprc):
    found = beside(experiment("mnist_anomaly", variants), "anomaly", figures={"num_images": scored})
    assert found == ({} if auprc is None else {"auprc": auprc})


@pytest.mark.parametrize("setting", ({"sigma": 2.0}, {"num_chains": 5}))
def test_another_score_is_not_the_papers(setting):
    config = copy.deepcopy(experiment("mnist_anomaly", "digit=4"))
    config.task.anomaly.update(setting)
    assert beside(config, "anomaly", figures={"num_images": 19_460}) == {}


def test_a_written_report_of_an_encoder_has_the_papers_figure(tmp_path):
    """Its layers are tuples in the config and lists in the file."""
    config = experiment("svhn", "lfbm_vae")
    plain = workdir.plain(config)
    writer = ReportWriter(
        tmp_path, "reconstruct", LONG, config, papers=lambda r: comparable.figures(plain, r)
    )
    path = writer.write({"mse": 0.01, "num_images": FULL_SPLIT["svhn"]})
    assert json.loads(path.read_text())["paper"] == {"mse": 0.005}


def test_a_short_run_on_mnist_has_no_figure_of_the_paper():
    """The least is 20 epochs of the 50,540 images that train when digit 4 is held out."""
    config = experiment("mnist_anomaly", "digit=4")
    for step, found in ((10_120, {"auprc": 0.812}), (10_119, {})):
        assert beside(config, "anomaly", step, {"num_images": 19_460}) == found
