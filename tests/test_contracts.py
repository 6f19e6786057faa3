"""What every prior, generator, inference method and objective does; new modules are included.

A module is built as users build it: named in a config, with its default settings. `small_config`
shrinks the settings of the default modules.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.images.pixels import occlude
from lfbm_jax.inference.base import Posterior
from lfbm_jax.layers.flows import Flow
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives.base import Keys
from lfbm_jax.priors import fitted_glow
from tests.builders import (
    EVERY_PART,
    build_part,
    invented,
    model_with_objective,
    modules,
    perturbed,
)
from tests.linear_gaussian import linear_model

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


def each(section):
    return pytest.mark.parametrize("name", modules(section))


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def close(found, expected, dtype):
    tolerance = TOLERANCE[dtype.name]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# The initial parameters of these parts are fixed.
WITHOUT_DRAWS = {("prior", "mixture"), ("inference", "sri")}


@pytest.mark.parametrize(
    ("section", "name"), [part for part in EVERY_PART if part[0] != "objective"]
)
def test_init_is_a_function_of_its_key_in_the_default_type(section, name):
    part = build_part(section, name)
    init = jax.jit(part.init)
    first, again, other = (jax.tree.leaves(init(jax.random.key(seed))) for seed in (0, 0, 1))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
        assert np.isfinite(one).all()
    if first and (section, name) not in WITHOUT_DRAWS:
        assert any(np.any(one != another) for one, another in zip(first, other, strict=True))
    for wanted in TOLERANCE:
        with jax.enable_x64(wanted == "float64"):
            shapes = jax.eval_shape(part.init, jax.random.key(0))
            assert dtypes(shapes) <= {jnp.dtype(wanted)}, shapes


@each("prior")
def test_prior(name, dtype):
    """Shapes and types are right, examples do not interact, and dloss/dz = -dlog_prob/dz."""
    prior = build_part("prior", name)
    assert prior.normalized in (True, False)
    alpha = invented(prior.init)

    @jax.jit
    def evaluate(alpha, keys, z):
        prepared = prior.prepare(alpha)

        def one(key, z):
            log_prob, slope = jax.value_and_grad(lambda z: prior.log_prob(prepared, z))(z)
            loss, loss_slope = jax.value_and_grad(lambda z: prior.loss(prepared, key, z))(z)
            return log_prob, slope, loss, loss_slope, prior.sample(prepared, key)

        return jax.vmap(one)(keys, z)

    keys = jax.random.split(jax.random.key(1), 4)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)))
    found = evaluate(alpha, keys, z)
    log_prob, slope, loss, loss_slope, sample = found
    assert dtypes(found) == {dtype}
    assert log_prob.shape == loss.shape == (4,)
    assert slope.shape == loss_slope.shape == sample.shape == (4, 5)
    assert all(np.isfinite(array).all() for array in found)
    assert np.all(np.linalg.norm(slope, axis=1) > 0)
    close(loss_slope, -slope, dtype)
    if prior.normalized:
        close(loss, -log_prob, dtype)
    assert len(np.unique(sample[:, 0])) == 4, "samples do not depend on their key"
    for array, backwards in zip(found, evaluate(alpha, keys[::-1], z[::-1]), strict=True):
        close(backwards[::-1], array, dtype)


@each("prior")
def test_normalized_prior_integrates_to_one_and_samples_from_its_density(name):
    prior = build_part("prior", name, latent_dim=2)
    if not prior.normalized:
        pytest.skip("known up to a constant")
    if name == "mixture":  # Arbitrary factors could make it narrower than the grid.
        alpha = perturbed(prior.init(jax.random.key(0)))
    else:
        alpha = invented(prior.init, scale=0.1)
    prepared = jax.jit(prior.prepare)(alpha)
    axis = np.linspace(-16, 16, 321, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_prob = jax.jit(jax.vmap(lambda z: prior.log_prob(prepared, z)))
    mass = np.exp(np.asarray(log_prob(grid), float)) * (axis[1] - axis[0]) ** 2
    assert np.sum(mass) == pytest.approx(1, abs=2e-3)
    keys = jax.random.split(jax.random.key(2), 40_000)
    z = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(prepared, key)))(keys), float)
    mean = mass @ grid
    covariance = (grid - mean).T * mass @ (grid - mean)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (z - mean).T)
    np.testing.assert_allclose(white.mean(axis=1), 0, atol=4.5 / np.sqrt(len(z)))
    np.testing.assert_allclose(np.cov(white), np.eye(2), atol=10 / np.sqrt(len(z)))


@each("prior")
def test_forward_undoes_inverse_and_a_flows_base_is_normal(name):
    with jax.enable_x64(True):
        prior = build_part("prior", name)
        prepared = prior.prepare(invented(prior.init))
        z = jnp.asarray(np.random.default_rng(0).normal(size=5))
        z0 = jax.jit(prior.inverse)(prepared, z)
        assert z0.shape == (5,)
        np.testing.assert_allclose(jax.jit(prior.forward)(prepared, z0), z, rtol=1e-11)
        if not isinstance(prior, Flow | fitted_glow.Prior):
            np.testing.assert_array_equal(z0, z)
            return
        assert np.abs(z0 - z).max() > 1e-2
        log_det = jnp.linalg.slogdet(jax.jacfwd(lambda z: prior.inverse(prepared, z))(z))[1]
        expected = jnp.sum(jax.scipy.stats.norm.logpdf(z0)) + log_det
        np.testing.assert_allclose(prior.log_prob(prepared, z), expected, rtol=1e-11)
        draw = jax.random.normal(jax.random.key(3), (5,))
        drawn = prior.sample(prepared, jax.random.key(3))
        np.testing.assert_allclose(drawn, prior.forward(prepared, draw), rtol=1e-11)


@each("generator")
def test_generator(name, dtype):
    """Shape, type and range are right, and a batch gives the same as a loop over its examples."""
    generator = build_part("generator", name)
    beta = invented(generator.init, scale=0.4)

    @jax.jit
    def decode(beta, z):
        prepared = generator.prepare(beta)
        together = jax.vmap(lambda z: generator.apply(prepared, z))(z)
        return together, jax.lax.map(lambda z: generator.apply(prepared, z), z)

    z = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))
    z = z.at[2].multiply(1e4)
    together, one_by_one = decode(beta, z)
    assert together.shape == (3, 8, 8, 1)
    assert together.dtype == dtype
    assert np.max(np.abs(together)) <= 1
    assert np.std(together[0] - together[1]) > 1e-3, "the image does not depend on z"
    close(together, one_by_one, dtype)


@each("generator")
def test_generator_gradients_are_its_slopes(name):
    """The slopes are differences along a random direction of z and all parameters, in float64."""
    with jax.enable_x64(True):
        generator = build_part("generator", name)
        random = np.random.default_rng(0)
        weights = random.normal(size=(8, 8, 1))

        @jax.jit
        def value_and_gradient(beta, z):
            def total(beta, z):
                return jnp.sum(weights * generator.apply(generator.prepare(beta), z))

            return jax.value_and_grad(total, argnums=(0, 1))(beta, z)

        point = invented(generator.init, 0, 0.4), jnp.asarray(random.normal(size=5))
        direction = invented(generator.init, 1, 0.4), jnp.asarray(random.normal(size=5))
        gradient = value_and_gradient(*point)[1]
        products = jax.tree.map(lambda g, v: jnp.sum(g * v), gradient, direction)
        ahead, behind = (
            value_and_gradient(*jax.tree.map(lambda p, v, h=h: p + h * v, point, direction))[0]
            for h in (1e-5, -1e-5)
        )
        slope = sum(jax.tree.leaves(products))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient)), "dead parameters"


@each("generator")
def test_generator_counts_its_operations(name):
    """`describe` reads the number of operations."""
    flops = build_part("generator", name).flops()
    assert isinstance(flops, int) and flops > 0


@each("inference")
def test_inference(name, dtype):
    """Shapes and types are right, examples do not interact, and the key determines the result."""
    inference = build_part("inference", name)
    model = linear_model(5, (8, 8, 1), 0.5, inference, inference)
    parameters = Parameters({}, invented(model.generator.init), invented(inference.init))

    @jax.jit
    def infer(parameters, keys, images):
        def one(key, image):
            example = Example(image, jnp.zeros((), int), jnp.ones(()))
            log_joint = model.log_joint(model.prepare(parameters), image)
            return inference.infer(parameters.phi, key, example, log_joint)

        return jax.vmap(one)(keys, images)

    keys = jax.random.split(jax.random.key(1), 3)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 1)))
    found = infer(parameters, keys, images)
    assert isinstance(found, Posterior)
    assert found.z.shape == (3, 5)
    assert found.log_q.shape == (3,)
    assert found.info and all(value.shape == (3,) for value in found.info.values())
    assert dtypes(found) == {dtype}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    backwards = infer(parameters, keys[::-1], images[::-1])
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(backwards), strict=True):
        close(other[::-1], one, dtype)
    same_key = infer(parameters, keys[jnp.array([0, 0, 1])], images[jnp.array([0, 0, 0])]).z
    close(same_key[0], same_key[1], dtype)
    assert np.max(np.abs(same_key[0] - same_key[2])) > 1e-2


@each("objective")
@pytest.mark.parametrize("masked", [False, True])
def test_objective(name, masked):
    """Shapes are right, and hidden pixels change neither losses nor metrics of any update."""
    model = model_with_objective(name)
    parameters, updates = invented(model.init), model.objective.updates
    changed = {name for update in updates for name in update.changes}
    assert set(parameters.psi or ()) <= changed <= parameters.groups().keys()
    assert all(update.times >= 1 for update in updates)

    @jax.jit
    def losses(parameters, image, mask):
        prepared = model.prepare(parameters)
        key = jax.random.key(3)
        example = Example(occlude(image, mask), jnp.zeros((), int), jnp.ones(()), mask)
        return [update.loss(model, prepared, Keys(key, key), example) for update in updates]

    random = np.random.default_rng(0)
    image, other = jnp.asarray(random.uniform(-1, 1, (2, 8, 8, 1)), jnp.float32)
    mask = jnp.ones((8, 8, 1)).at[:3].set(0) if masked else None
    found = losses(parameters, image, mask)
    assert any(z is not None for *_, z in found) == model.objective.infers
    for value, metrics, z in found:
        assert value.shape == () and (z is None or z.shape == (5,))
        assert all(metric.shape == () for metric in metrics.values())
        assert z is not None or "mse" not in metrics
    if masked:
        same = losses(parameters, jnp.where(mask == 0, other, image), mask)
        jax.tree.map(np.testing.assert_array_equal, found, same)
    elsewhere = losses(parameters, other, mask)
    assert [loss.value for loss in elsewhere] != [loss.value for loss in found]


