"""The benchmark's peer does the same maths: one step from the same weights and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.costs import peers
from lfbm_jax.devices import sharding
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example
from lfbm_jax.runs import build
from tests.builders import perturbed, small_config

torch = pytest.importorskip("torch", reason="needs PyTorch, the benchmark's peer")
from tests.peers import pytorch_lfbm  # noqa: E402

BATCH = 6


def test_one_step_of_the_peer_equals_ours():
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        config = small_config()
        config.train.batch_size = BATCH
        config.generator.layers = ((16, 3, 1, 0), (32, 4, 2, 1), (1, 3, 1, 0))
        built = build.model(config)
        state = learning.init_state(config, built)
        state = state._replace(parameters=perturbed(state.parameters))
        before = jax.device_get(state.parameters)
        images = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 1), dtype=np.uint8)
        index = np.arange(BATCH, dtype=np.int32)
        examples = Example(images[None, None], index[None, None], np.ones((1, 1, BATCH)))
        update = learning.make_update(config, built, steps_per_epoch=100)
        after, metrics = update(sharding.replicate(state), examples, np.int32(1))
        states, metrics = jax.device_get((after.opt_state, metrics))

        def randomness(index):
            key = key_for(config.seed, Purpose.INFERENCE, 0, index, 0)
            start_key, noise_key = jax.random.split(key)
            steps = jnp.arange(config.inference.num_steps)
            noise_keys = jax.vmap(lambda i: jax.random.fold_in(noise_key, i))(steps)
            draw = jax.vmap(lambda key: jax.random.normal(key, (config.model.latent_dim,)))
            return draw(start_key[None])[0], draw(noise_keys)

        start, noise = jax.device_get(jax.vmap(randomness)(index))

    spec = peers.pytorch_spec(config, compiled=False, device="cpu")
    peer = pytorch_lfbm.Model(spec)
    peer.load(before.alpha, before.beta)
    trainer = pytorch_lfbm.Trainer(peer, spec)
    x = torch.as_tensor(images / 127.5 - 1).permute(0, 3, 1, 2)
    z = trainer.step(x, torch.tensor(start), torch.tensor(noise.swapaxes(0, 1)))
    torch.set_default_dtype(torch.float32)

    norm = np.linalg.norm(z.numpy(), axis=1).mean()
    np.testing.assert_allclose(norm, metrics["norm_z"][0], rtol=1e-12)
    # Adam's step hides the scale of a gradient, its first moment does not.
    expected = pytorch_lfbm.Model(spec).double()
    expected.load(states.alpha["adam"].mu, states.beta["adam"].mu)
    averages = {
        parameter: state["exp_avg"].numpy()
        for optimizer in trainer.optimizers
        for parameter, state in optimizer.state.items()
    }
    for (name, ours), theirs in zip(expected.named_parameters(), peer.parameters(), strict=True):
        np.testing.assert_allclose(
            averages[theirs], ours.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=name
        )
