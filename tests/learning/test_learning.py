"""The update against gradients worked out one example at a time, from Eq. 6, 7 and 8.

Gradients are read off Adam's first moments, which after one step are (1 - b1) times them: what is
tested is what the compiled, pmapped update does.
"""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfbm_jax import learning
from lfbm_jax.devices import sharding
from lfbm_jax.inference.langevin import Inference
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.objectives import variational
from lfbm_jax.priors import gaussian, glow
from tests.builders import invented, small_config
from tests.linear_gaussian import LinearGenerator

SHAPE, SIGMA, B1, B2 = (2, 3, 1), 0.7, 0.5, 0.999
STEPS_PER_EPOCH, SLOTS, BATCH, REAL = 2, 3, 8, 5


class CountingGenerator(LinearGenerator):
    """Counts how often it is traced."""

    def prepare(self, beta):
        TRACES.append(1)
        return beta


TRACES = []


class LookingInference(Inference):
    """Infers the mean of the image that it is given."""

    def infer(self, phi, key, example, log_joint, start=None):
        found = super().infer(phi, key, example, log_joint, start)
        if example is not None:
            found.info["mean"] = jnp.mean(example.image)
        return found


MODEL = Model(
    prior=glow.Prior(3, num_steps=2, hidden_width=4),
    generator=CountingGenerator(3, SHAPE),
    inference=LookingInference(3, num_steps=3, step_size=0.3),
    eval_inference=None,
    sigma=SIGMA,
    objective=variational.Objective(),
)


def make_config(**settings):
    config = small_config()
    config.seed = 11
    config.data.horizontal_flip = True
    config.optimizer.prior.update({"learning_rate": 3e-2, "decay_per_epoch": 0.5})
    config.optimizer.generator.update({"learning_rate": 1e-2, "decay_per_epoch": 0.9})
    config.update_from_flattened_dict(settings)
    return config


@functools.cache
def compiled(**settings):
    """The update for a config with these settings, compiled once for all tests."""
    return learning.make_update(make_config(**settings), MODEL, STEPS_PER_EPOCH)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def initial():
    """A state before the first step, with made-up parameters, as NumPy arrays."""
    parameters = invented(MODEL.init, scale=0.4)
    return jax.device_get(learning.first_state(make_config(), parameters))


def examples(seed=0, steps=SLOTS):
    """Examples of some steps, [steps, BATCH], of which the first REAL count."""
    random = np.random.default_rng(seed)
    index = np.stack([random.permutation(1000)[:BATCH] for _ in range(steps)])
    images = random.integers(0, 256, (steps, BATCH, *SHAPE), dtype=np.uint8)
    weight = np.broadcast_to(np.arange(BATCH) < REAL, (steps, BATCH)).astype(np.float32)
    return Example(images, index.astype(np.int32), weight)


def split(batches):
    """[steps, BATCH, ...] -> [devices, steps, shard, ...]."""

    def one(array):
        shards = array.reshape(len(array), jax.local_device_count(), -1, *array.shape[2:])
        return np.ascontiguousarray(shards.swapaxes(0, 1))

    return jax.tree.map(one, batches)


def update(state, batches, num_steps, **settings):
    """Calls the compiled update; results as NumPy arrays, metrics of the steps taken."""
    state, metrics = compiled(**settings)(
        sharding.replicate(state), split(batches), np.int32(num_steps)
    )
    metrics = jax.device_get(metrics)
    assert {len(values) for values in metrics.values()} == {len(batches.index)}
    metrics = {name: values[:num_steps] for name, values in metrics.items()}
    return jax.device_get(state), metrics


def row(batches, i):
    return jax.tree.map(lambda array: array[i : i + 1].repeat(SLOTS, axis=0), batches)


def first_gradients(opt_state):
    """Of alpha, beta and phi."""
    return [jax.tree.map(lambda mu: mu / (1 - B1), group["adam"].mu) for group in opt_state[:3]]


@jax.jit
def one_example(parameters, step, repeat, image, index):
    """Minus the gradients of log p(z) and log p(x|z) at the z that a chain finds, and the z."""
    x = image / 127.5 - 1.0
    flip = jax.random.bernoulli(key_for(11, Purpose.FLIP, step, index))
    x = jnp.where(flip, x, x[:, ::-1])
    key = key_for(11, Purpose.INFERENCE, step, index, repeat)
    log_joint = MODEL.log_joint(MODEL.prepare(parameters), x)
    z = MODEL.inference.infer({}, key, None, log_joint).z

    def log_p_z(alpha):
        return MODEL.prior.log_prob(MODEL.prior.prepare(alpha), z)

    def log_p_x_given_z(beta):
        mean = (beta["matrix"] @ z + beta["bias"]).reshape(SHAPE)
        return -jnp.sum((x - mean) ** 2) / (2 * SIGMA**2)

    gradients = jax.grad(log_p_z)(parameters.alpha), jax.grad(log_p_x_given_z)(parameters.beta)
    return jax.tree.map(jnp.negative, gradients), z


def averages(parameters, batches, step, repeat=0):
    """Eq. 6 and 7 with minus signs: averages over the examples that count, of slot `step`."""
    each = [
        one_example(parameters, step, repeat, batches.image[step, i], batches.index[step, i])
        for i in range(REAL)
    ]
    gradients = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *(g for g, _ in each))
    return gradients, np.stack([z for _, z in each])


def assert_close(found, expected, rtol=1e-9):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for one, other in leaves:
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def assert_identical(found, expected):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for one, other in leaves:
        np.testing.assert_array_equal(one, other)


def test_gradients_are_those_of_equations_6_and_7():
    """Chains, flips and the weights of padding included."""
    state, metrics = update(initial(), examples(), 1)
    (of_prior, of_generator), z = averages(initial().parameters, examples(), 0)
    of_alpha, of_beta, of_phi = first_gradients(state.opt_state)
    assert_close(of_alpha, of_prior)
    assert_close(of_beta, of_generator)
    assert of_phi is None
    np.testing.assert_allclose(metrics["norm_z"][0], np.linalg.norm(z, axis=1).mean(), rtol=1e-9)
    for name, gradient in (("prior", of_prior), ("generator", of_generator)):
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        np.testing.assert_allclose(metrics[f"grad_norm_{name}"][0], norm, rtol=1e-9)
        assert norm > 0.1, "the case says nothing"
    assert not any(name.endswith("inference") for name in metrics)
    assert "elbo" not in metrics, "a chain's end has no density"


def test_images_of_weight_zero_do_not_count():
    batches = examples()
    images = batches.image.copy()
    images[:, REAL:] = 255 - images[:, REAL:]
    index = batches.index.copy()
    index[:, REAL:] += 1
    first = update(initial(), batches, 1)
    other = update(initial(), Example(images, index, batches.weight), 1)
    assert_identical(first, other)
    images[:, 0] = 255 - images[:, 0]
    changed = update(initial(), Example(images, index, batches.weight), 1)
    assert changed[1]["mse"][0] != first[1]["mse"][0]


def test_the_order_of_a_batch_does_not_matter():
    order = np.random.default_rng(3).permutation(BATCH)
    batches = examples()
    shuffled = jax.tree.map(lambda array: array[:, order], batches)
    assert_close(update(initial(), shuffled, 1), update(initial(), batches, 1))


def test_chains_depend_on_index_and_step():
    batches = examples()
    other_index = batches._replace(index=batches.index + 1)
    later = initial()._replace(step=np.int32(1))
    _, metrics = update(initial(), batches, 1)
    for state, given in ((initial(), other_index), (later, batches)):
        assert abs(update(state, given, 1)[1]["norm_z"][0] - metrics["norm_z"][0]) > 1e-3


def test_several_steps_in_one_call_are_the_same_steps_in_single_calls():
    batches = examples()
    together, metrics = update(initial(), batches, SLOTS)
    alone, history = initial(), []
    for i in range(SLOTS):
        alone, single = update(alone, row(batches, i), 1)
        history.append(single)
    assert_identical(alone, together)
    assert together.step == SLOTS
    for name, values in metrics.items():
        np.testing.assert_array_equal(values, np.concatenate([h[name] for h in history]), name)


def test_three_steps_are_adam_with_rates_that_decay_after_every_epoch():
    """Against optax's own Adam, given the averages worked out one example at a time."""
    batches = examples()
    state, metrics = update(initial(), batches, SLOTS)
    epochs = np.array([0, 0, 1])
    rates = {"prior": 3e-2 * 0.5**epochs, "generator": 1e-2 * 0.9**epochs}
    for name, expected in rates.items():
        np.testing.assert_allclose(metrics[f"learning_rate_{name}"], expected, rtol=1e-12)
    groups = list(initial().parameters[:2])
    optimizers = [
        optax.adam(lambda count, name=name: jnp.asarray(rates[name])[count], B1, B2)
        for name in ("prior", "generator")
    ]
    memories = [adam.init(group) for adam, group in zip(optimizers, groups, strict=True)]
    for step in range(SLOTS):
        gradients, _ = averages(Parameters(*groups, {}), batches, step)
        for i in range(2):
            change, memories[i] = optimizers[i].update(gradients[i], memories[i])
            groups[i] = optax.apply_updates(groups[i], change)
    assert_close(tuple(state.parameters[:2]), tuple(groups), rtol=1e-7)


def test_several_updates_of_the_prior_for_one_of_the_generator():
    """Table 10: alpha takes three steps with new noise each, beta one."""
    batches = examples()
    state, metrics = update(initial(), batches, 1, **{"train.prior_inference_updates": 3})
    assert state.step == 1
    assert [int(group["adam"].count) for group in state.opt_state[:3]] == [3, 1, 3]
    adam = optax.adam(3e-2, B1, B2)
    alpha, beta = initial().parameters[:2]
    memory = adam.init(alpha)
    for repeat in range(3):
        (of_prior, of_generator), z = averages(Parameters(alpha, beta, {}), batches, 0, repeat)
        change, memory = adam.update(of_prior, memory)
        alpha = optax.apply_updates(alpha, change)
    assert_close(state.parameters.alpha, alpha, rtol=1e-7)
    assert_close(first_gradients(state.opt_state)[1], of_generator, rtol=1e-7)
    np.testing.assert_allclose(metrics["norm_z"][0], np.linalg.norm(z, axis=1).mean(), rtol=1e-7)


def test_one_trace_one_compilation_and_a_donated_state():
    batches, update = split(examples()), compiled()
    state, _ = update(sharding.replicate(initial()), batches, np.int32(1))
    compilations = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            compilations.append(event)

    traces = len(TRACES)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        before = state
        for num_steps in (1, 3, 2):
            state, _ = update(state, batches, np.int32(num_steps))
        jax.block_until_ready(state)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert traces > 0 and len(TRACES) == traces
    assert not compilations
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "the state is not donated"
    assert int(state.step) == 1 + 1 + 3 + 2


def test_the_first_call_compiles_the_only_program():
    """Replicated states have the layout that the update returns."""
    state = sharding.replicate(initial())
    after, _ = compiled()(sharding.replicate(initial()), split(examples()), np.int32(1))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)
        assert one.dtype == other.dtype and one.weak_type == other.weak_type


def test_horizontal_flips_are_of_index_and_step():
    """The reference above flips by (step, index): half of a set's images, another half later."""
    flipped = np.array(
        [
            [bool(jax.random.bernoulli(key_for(11, Purpose.FLIP, step, i))) for i in range(40)]
            for step in range(2)
        ]
    )
    assert 10 < flipped[0].sum() < 30 and 5 < np.sum(flipped[0] != flipped[1]) < 35
    asymmetric = np.zeros((1, BATCH, *SHAPE), np.uint8)
    asymmetric[..., 0, :] = 255
    batches = examples()._replace(image=asymmetric.repeat(SLOTS, axis=0))
    state, _ = update(initial(), batches, 1)
    (_, of_generator), _ = averages(initial().parameters, batches, 0)
    assert_close(first_gradients(state.opt_state)[1], of_generator)


def test_average_weighs_recent_parameters_most_and_the_initial_ones_not_at_all():
    batches, decay = examples(), 0.6
    state = initial()._replace(average=initial().parameters)
    after, _ = update(state, batches, SLOTS, **{"train.ema_decay": decay})
    each, current = [], initial()
    for i in range(SLOTS):
        current, _ = update(current, row(batches, i), 1)
        each.append(current.parameters)
    weights = decay ** np.arange(SLOTS)[::-1]
    expected = jax.tree.map(lambda *p: np.average(p, axis=0, weights=weights), *each)
    assert_close(after.average, expected)
    assert_close(after.parameters, current.parameters)


def test_clipping_shortens_a_gradient_that_is_too_long():
    """The prior's is four times as long as allowed, the generator's a quarter of that."""
    batches = examples()
    state, metrics = update(initial(), batches, 1)
    norms = {section: float(metrics[f"grad_norm_{section}"][0]) for section in NORMS}
    settings = {f"optimizer.{name}.clip_norm": NORMS[name] * norms[name] for name in NORMS}
    clipped, logged = update(initial(), batches, 1, **settings)
    of_prior, of_generator, _ = first_gradients(clipped.opt_state)
    plain_prior, plain_generator, _ = first_gradients(state.opt_state)
    assert_close(of_prior, jax.tree.map(lambda g: g / 4, plain_prior))
    assert_close(of_generator, plain_generator)
    assert {name: logged[f"grad_norm_{name}"][0] for name in NORMS} == pytest.approx(norms)


NORMS = {"prior": 0.25, "generator": 4.0}


def test_init_state_is_a_function_of_the_seed():
    small = dataclasses.replace(MODEL, prior=gaussian.Prior(3))
    config = make_config()
    first, again = (learning.init_state(config, small) for _ in range(2))
    assert_identical(first, again)
    assert first.step == 0 and first.step.dtype == jnp.int32
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(first.opt_state))
    other = copy.deepcopy(config)
    other.seed = 12
    matrix = learning.init_state(other, small).parameters.beta["matrix"]
    assert np.any(matrix != first.parameters.beta["matrix"])


def test_hidden_pixels_are_not_looked_at():
    """The values of hidden pixels change nothing, even with flips; those of visible pixels do."""
    batches = examples()
    random = np.random.default_rng(5)
    mask = random.integers(0, 2, (SLOTS, BATCH, *SHAPE), dtype=np.uint8)
    changed = random.integers(0, 256, batches.image.shape, dtype=np.uint8)
    one, other, visible = (
        update(initial(), batches._replace(image=image, mask=mask), 2)
        for image in (
            batches.image,
            np.where(mask == 1, batches.image, changed),
            np.where(mask == 1, changed, batches.image),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert np.all(np.abs(one[1]["mse"] - visible[1]["mse"]) > 1e-3)


@pytest.mark.parametrize("size", [1, 3])
def test_microbatches_change_nothing(size):
    """8 examples, the first three of weight zero: one by one, and by three with one filled in."""
    batches = jax.tree.map(lambda array: array[:, ::-1], examples())
    whole, parts = (
        update(initial(), batches, 2, **settings)
        for settings in ({}, {"train.microbatch_size": size})
    )
    assert_close(parts[0], whole[0], rtol=1e-9)
    assert_close(parts[1], whole[1], rtol=1e-9)


def test_many_microbatches_add_up_even_if_the_generator_computes_in_bfloat16():
    """A sum of 1024 like gradients in bfloat16 would stop growing at 256 of them."""

    class Half(LinearGenerator):
        def prepare(self, beta):
            return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), beta)

        def apply(self, prepared, z):
            return super().apply(prepared, z.astype(jnp.bfloat16)).astype(z.dtype)

    count = 1024
    config = make_config(**{"train.microbatch_size": 1, "data.horizontal_flip": False})
    model = dataclasses.replace(MODEL, prior=gaussian.Prior(3), generator=Half(3, SHAPE))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    state = sharding.replicate(learning.first_state(config, zeros))
    index, weight = np.arange(count, dtype=np.int32)[None], np.ones((1, count), np.float32)
    black = Example(np.zeros((1, count, *SHAPE), np.uint8), index, weight)
    step = learning.make_update(config, model, STEPS_PER_EPOCH)
    state, _ = step(state, split(black), np.int32(1))
    of_bias = first_gradients(jax.device_get(state.opt_state))[1]["bias"]
    np.testing.assert_allclose(of_bias, 1 / SIGMA**2, rtol=0.01)  # g = 0 and x = -1
