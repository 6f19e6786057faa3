"""Persistent chains: where they start and stop, on any number of devices and after a resume."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.devices import sharding
from lfbm_jax.errors import UserError
from lfbm_jax.images.batches import Batches
from lfbm_jax.images.cache import Split
from lfbm_jax.inference.persistent import Inference
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.learning import chains
from lfbm_jax.runs import build
from lfbm_jax.runs.checkpoints import Checkpoints
from tests.builders import experiment, small_config
from tests.linear_gaussian import linear_model

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)


def make_config():
    config = small_config()
    config.train.batch_size = 4
    return config


CONFIG = make_config()
CHAIN = Inference(5, num_steps=2, step_size=0.1)
MODEL = linear_model(5, (8, 8, 1), 0.5, CHAIN, CHAIN)
BATCHES = Batches(Split(IMAGES, None), CONFIG.seed, CONFIG.train.batch_size)


@pytest.fixture(scope="module")
def update():
    return learning.make_update(CONFIG, MODEL, BATCHES.steps_per_epoch)


def initial():
    return learning.init_state(CONFIG, MODEL, len(IMAGES))


def advance(update, state, begin, end):
    """The state after steps `begin` to `end`, as NumPy arrays."""
    state = sharding.replicate(state)
    for step in range(begin, end):
        state, _ = update(state, BATCHES(step, 1), np.int32(1))
    return jax.device_get(state)


def test_every_image_goes_on_where_it_stopped_and_the_others_stay(update):
    """Compares with the chain of one image, run by hand from the z in the state."""
    before = jax.device_get(initial())
    assert before.chains.shape == (9, 5)
    assert abs(before.chains.mean()) < 0.7 and 0.5 < before.chains.std() < 1.5
    after = advance(update, before, 0, 1)
    batch = jax.tree.map(lambda array: array.reshape(4, *array.shape[3:]), BATCHES(0, 1))
    seen = set(batch.index.tolist())
    assert len(seen) == 4
    others = [i for i in range(9) if i not in seen]
    np.testing.assert_array_equal(after.chains[others], before.chains[others])
    prepared = MODEL.prepare(before.parameters)
    for index in sorted(seen)[:2]:
        x = jnp.asarray(IMAGES[index] / 127.5 - 1, float)
        key = key_for(CONFIG.seed, Purpose.INFERENCE, 0, index, 0)
        log_joint = MODEL.log_joint(prepared, x)
        z = CHAIN.infer({}, key, None, log_joint, before.chains[index]).z
        np.testing.assert_allclose(after.chains[index], z, rtol=1e-4, atol=1e-5)
        assert np.any(after.chains[index] != before.chains[index])


def test_padding_moves_no_chain(update):
    """The third batch of an epoch has one image; here other ones fill its slots of weight zero."""
    before = advance(update, initial(), 0, 2)
    batch = BATCHES(2, 1)
    real = batch.index[batch.weight > 0]
    assert len(real) == 1
    index = np.where(batch.weight > 0, batch.index, (real[0] + 1) % len(IMAGES))
    state, _ = update(sharding.replicate(before), batch._replace(index=index), np.int32(1))
    moved = np.flatnonzero(np.any(jax.device_get(state).chains != before.chains, axis=1))
    assert moved.tolist() == real.tolist()


def test_a_resumed_run_has_the_same_chains_bit_for_bit(update, tmp_path):
    whole = advance(update, initial(), 0, 5)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(advance(update, initial(), 0, 3))
    restored = checkpoints.restore(initial())
    resumed = advance(update, restored, 3, 5)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert np.any(resumed.chains != restored.chains)
    without = checkpoints.restore(learning.init_state(CONFIG, MODEL))
    assert without.chains is None
    with pytest.raises(UserError, match="chains of 9 training images, but the data has 8; use"):
        checkpoints.restore(learning.init_state(CONFIG, MODEL, 8))
    damaged = tmp_path / "checkpoints" / "3" / "checksum" / "metadata"
    stored = json.loads(damaged.read_text())
    damaged.write_text(json.dumps(stored | {"chains": stored["chains"] ^ 1}))
    with pytest.raises(UserError, match="none of the checkpoints"):
        checkpoints.restore(initial())
    assert int(checkpoints.restore(learning.init_state(CONFIG, MODEL)).step) == 3
    checkpoints.close()


PROGRAM = """
import json
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from tests.inference.test_persistent import CONFIG, MODEL, BATCHES, advance, initial
from lfbm_jax import learning
update = learning.make_update(CONFIG, MODEL, BATCHES.steps_per_epoch)
state = advance(update, initial(), 0, 4)
print(json.dumps([jax.device_count(), state.chains.tolist()]))
"""


def test_one_device_and_three_agree(run_python):
    """Batches of 4, of which the last of an epoch has one image: padding on both."""
    found = [json.loads(run_python(PROGRAM, devices=devices).stdout) for devices in (1, 3)]
    assert [devices for devices, _ in found] == [1, 3]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-9, atol=1e-11)


def test_mirror_images_have_no_chain_of_their_own():
    config = experiment("digits", "persistent")
    config.data.horizontal_flip = True
    with pytest.raises(UserError, match=r"^data\.horizontal_flip=True: a persistent chain"):
        build.model(config)
    config.data.horizontal_flip = False
    assert build.model(config).inference.keeps_chains
    other = experiment("digits")
    other.data.horizontal_flip = True
    build.model(other)  # chains that start again


def test_other_inference_keeps_nothing():
    config = small_config()
    assert learning.init_state(config, build.model(config), 9).chains is None


def test_an_update_that_infers_no_z_leaves_the_chains():
    """For example, an update of a critic."""
    state = initial()
    batch = jax.tree.map(lambda leaf: leaf[0, 0], BATCHES(0, 1))
    assert chains.keep(state.chains, batch, None) is state.chains
    assert chains.keep(None, batch, jnp.ones((1, 4, 5))) is None
