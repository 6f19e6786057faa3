"""A work directory keeps to the images that it learned from, wherever they lie."""

import shutil

import numpy as np
import pytest
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Split
from lfbm_jax.runs import experiment, learned_from
from tests import trial


def folder_of_images(path, seed, count=8):
    path.mkdir()
    pixels = np.random.default_rng(seed).integers(0, 255, (count, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(path / f"{number}.png")
    return path


def test_another_folder_of_images_is_refused_and_a_moved_one_is_not(tmp_path):
    cats, dogs = (folder_of_images(tmp_path / n, i) for i, n in enumerate(("cats", "dogs")))
    run = tmp_path / "run"

    def config(folder):
        return trial.config_of(
            run,
            **{"data.source": "image_folder", "data.dir": str(folder), "data.image_size": 8},
            **{"data.test_fraction": 0.25, "train.num_steps": 2, "tasks": ("reconstruct",)},
        )

    experiment.run(config(cats), run)
    for command in (experiment.run, experiment.evaluated):
        with pytest.raises(UserError, match=r"learned from other images \(6 there, 6 now\)"):
            command(config(dogs), run)
    moved = shutil.move(cats, tmp_path / "moved")
    experiment.run(config(moved), run)
    experiment.evaluated(config(moved), run)


def test_another_decoder_is_no_other_data_and_another_number_is(tmp_path):
    images = np.random.default_rng(0).integers(1, 255, (20, 8, 8, 3), dtype=np.uint8)
    learned_from.remember(Split(images, None), tmp_path)
    noise = np.random.default_rng(1).integers(-1, 2, images.shape)
    learned_from.check(Split((images + noise).astype(np.uint8), None), tmp_path)
    for other in (images[:-1], images[::-1]):
        with pytest.raises(UserError, match="learned from other images"):
            learned_from.check(Split(other, None), tmp_path)


@pytest.mark.parametrize("text", ("{", "[]", "{}", '{"num_images": 20, "means": "x"}'))
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / learned_from.FILE).write_text(text)
    with pytest.raises(UserError, match=r"learned_from\.json is damaged"):
        learned_from.check(Split(np.zeros((20, 8, 8, 1), np.uint8), None), tmp_path)
