"""The compiled functions of a trained model."""

import functools
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from lfbm_jax.devices import sharding
from lfbm_jax.images.pixels import occlude, to_unit_range
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import precision
from lfbm_jax.model import Model
from lfbm_jax.trained.interpolation import between


class Samples(NamedTuple):
    """N ancestral samples, as NumPy arrays.

    Attributes:
        z: latent vectors, [N, d].
        images: g(z) in [-1, 1], [N, H, W, C].
    """

    z: np.ndarray
    images: np.ndarray


class Inferred(NamedTuple):
    """The latent vectors inferred from N images and what follows from them, as NumPy arrays.

    Attributes:
        z: latent vectors, [N, d].
        reconstruction: g(z) in [-1, 1], [N, H, W, C].
        log_p_z, log_p_x_given_z: in nats, [N]. With an energy prior, log_p_z is known up to a
            constant.
        info: the diagnostics of the inference method, each [N].
    """

    z: np.ndarray
    reconstruction: np.ndarray
    log_p_z: np.ndarray
    log_p_x_given_z: np.ndarray
    info: dict[str, np.ndarray]


class Programs:
    """Functions of (..., parameters, examples of all devices), compiled on their first use.

    The functions hold no parameters, so one instance serves a model throughout its training.
    """

    def __init__(self, config: ml_collections.ConfigDict, model: Model):
        self._config = config
        self._model = model

    @property
    def masked_inference(self) -> Any:
        """The method that infers z from incomplete images: eval_inference, if it takes masks.

        If it does not (an encoder, say), the method is the config's `masked_inference`: Langevin
        dynamics defined by the prior and the generator (section 4.3).
        """
        if self._model.eval_inference.takes_masks:
            return self._model.eval_inference
        return self._model.masked_inference

    @functools.cached_property
    def sample(self) -> Any:
        def sample(seed, parameters, index):
            key = key_for(seed, Purpose.SAMPLE, index)
            return Samples(*self._model.sample(self._model.prepare(parameters), key))

        return self.on_devices(sample, in_axes=(None, None, 0))

    @functools.cached_property
    def sample_again(self) -> Any:
        """Draws other samples for the same seed and numbers: `attempt` is 1, 2, ..."""

        def sample(seed, attempt, parameters, index):
            key = key_for(seed, Purpose.SAMPLE, index, attempt)
            return Samples(*self._model.sample(self._model.prepare(parameters), key))

        return self.on_devices(sample, in_axes=(None, None, None, 0))

    @functools.cached_property
    def infer(self) -> Any:
        return self._inference(self._model.eval_inference)

    @functools.cached_property
    def infer_as_in_training(self) -> Any:
        """Infers under the prior with which the generator learned, even if it is fitted by now."""
        model = self._model
        return self._inference(model.inference, undo_the_fit=model.prior.fitted_afterwards)

    @functools.cached_property
    def infer_masked(self) -> Any:
        return self._inference(self.masked_inference)

    @functools.cached_property
    def decode(self) -> Any:
        return self.on_devices(
            lambda parameters, z: self._model.decode(self._model.prepare(parameters), z)
        )

    @functools.cached_property
    def log_prior(self) -> Any:
        return self.on_devices(
            lambda parameters, z: self._model.log_p_z(self._model.prepare(parameters), z)
        )

    @functools.cached_property
    def score(self) -> Any:
        """The objective's own score of an example."""
        model = self._model

        def score(parameters, example):
            example = example._replace(image=to_unit_range(example.image))
            return model.objective.score(model, model.prepare(parameters), example)

        return self.on_devices(score)

    @functools.cached_property
    def interpolate(self) -> Any:
        model, prior = self._model, self._model.prior

        def interpolate(parameters, way):
            prepared = model.prepare(parameters)
            *ends, fraction = way
            base = (prior.inverse(prepared.alpha, z) for z in ends)
            return model.decode(prepared, prior.forward(prepared.alpha, between(*base, fraction)))

        return self.on_devices(interpolate)

    def _inference(self, inference: Any, undo_the_fit: bool = False) -> Any:
        """Infers z, under the prior as it was before its fit or under the model's own.

        log_p_z is the model's own in either case.
        """
        model = self._model

        def infer(seed, chain, parameters, example):
            prepared = model.prepare(parameters)
            x = occlude(to_unit_range(example.image), example.mask)
            example = example._replace(image=x)
            log_joint = model.log_joint(prepared, x, example.mask)
            climbed = log_joint
            if undo_the_fit:
                alpha = model.prior.prepare(model.prior.unfitted(parameters.alpha))
                climbed = model.log_joint(prepared._replace(alpha=alpha), x, example.mask)
            key = key_for(seed, Purpose.EVALUATION, example.index, chain)
            posterior = inference.infer(prepared.phi, key, example, climbed)
            log_p_z, log_p_x_given_z = log_joint(posterior.z)
            reconstruction = model.decode(prepared, posterior.z)
            return Inferred(
                posterior.z, reconstruction, log_p_z, log_p_x_given_z, posterior.info
            )

        return self.on_devices(infer, in_axes=(None, None, None, 0))

    def on_devices(self, one_example: Any, in_axes: tuple = (None, 0)) -> Any:
        """Vectorises over a device's examples (the last argument), then maps over devices."""
        precise = precision.of_networks(self._config)(one_example)
        return sharding.on_every_device(jax.vmap(precise, in_axes=in_axes), in_axes)
