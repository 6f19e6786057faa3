"""A trained model for notebooks, scripts and tasks: NumPy in, NumPy out."""

import functools
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from lfbm_jax import sharding
from lfbm_jax.inference import langevin
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model, Parameters, occlude, to_unit_range

BATCH_SIZE = 100


class Inferred(NamedTuple):
    """What inference found for N images; NumPy arrays.

    Attributes:
        z: latent vectors, [N, d].
        reconstruction: g(z) in [-1, 1], [N, H, W, C].
        log_p_z, log_p_x_given_z: in nats, [N]; log_p_z up to a constant for an energy prior.
        info: the method's diagnostics, each [N].
    """

    z: np.ndarray
    reconstruction: np.ndarray
    log_p_z: np.ndarray
    log_p_x_given_z: np.ndarray
    info: dict[str, np.ndarray]


class TrainedModel:
    """A model with its parameters.

    Batches of any size are cut into equal ones and padded, so that each method compiles once.

    Attributes:
        config: of the run.
        model: its parts, as pure functions.
        step: how many iterations trained it.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: Model,
        parameters: Parameters,
        step: int,
        average: Parameters | None = None,
    ):
        self.config = config
        self.model = model
        self.step = step
        self._parameters = sharding.replicate(parameters)
        self._average = average

    def with_parameters(
        self, parameters: Parameters, step: int, average: Parameters | None = None
    ) -> "TrainedModel":
        """The same model at another moment of training; nothing is compiled again."""
        other = object.__new__(TrainedModel)
        # Shares the compiled functions, which are kept in the instance dictionary.
        other.__dict__.update(self.__dict__)
        other.step = step
        other._parameters = sharding.replicate(parameters)
        other._average = average
        return other

    @property
    def averaged(self) -> "TrainedModel | None":
        """The same model with the moving average of its parameters, or None where none is kept."""
        return self.with_parameters(self._average, self.step) if self._average else None

    def sample(
        self, num: int, seed: int = 0, batch_size: int = BATCH_SIZE
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral samples: latent vectors [num, d] and images [num, H, W, C] in [-1, 1]."""
        batches = sharding.map_over_examples(
            functools.partial(self._sample, np.int32(seed)),
            self._parameters,
            np.arange(num, dtype=np.int32),
            batch_size,
        )
        return _concatenate(_progress(batches, num, "sampling"))

    def infer(
        self,
        images: np.ndarray,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        training_settings: bool = False,
        masks: np.ndarray | None = None,
        chain: int = 0,
    ) -> Inferred:
        """Infers the latent vectors of uint8 images [N, H, W, C].

        Args:
            images: the images.
            seed: of the chains, together with the position of an image.
            batch_size: images a call.
            training_settings: whether to infer as in training instead of as in evaluation.
            masks: 1 where a pixel is visible, [N, H, W, 1]; None where all are. The others are
                not looked at, and not part of log_p_x_given_z. In evaluation `masked_inference`
                infers from such images.
            chain: 0, 1, ...: one of several independent starts for every image.
        """
        count = len(images)
        examples = Example(
            images, np.arange(count, dtype=np.int32), np.ones(count, np.float32), masks
        )
        if training_settings:
            infer = self._infer_as_in_training
        else:
            infer = self._infer if masks is None else self._infer_masked
        batches = sharding.map_over_examples(
            functools.partial(infer, np.int32(seed), np.int32(chain)),
            self._parameters,
            examples,
            batch_size,
        )
        return _concatenate(_progress(batches, count, "inferring"))

    @property
    def masked_inference(self) -> Any:
        """How z is inferred from incomplete images: by eval_inference where that is able to.

        Else, as for an encoder, by the Langevin dynamics that the prior and the generator define,
        with its usual settings for evaluation (section 4.3).
        """
        if getattr(self.model.eval_inference, "takes_masks", False):
            return self.model.eval_inference
        return langevin.Inference(self.config.model.latent_dim, **langevin.EVALUATION)

    def decode(self, z: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """The images g(z), [N, H, W, C] in [-1, 1], of latent vectors [N, d]."""
        batches = sharding.map_over_examples(self._decode, self._parameters, z, batch_size)
        return _concatenate(batches)

    def log_prior(self, z: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """log p(z) in nats, [N], of latent vectors [N, d]."""
        batches = sharding.map_over_examples(self._log_prior, self._parameters, z, batch_size)
        return _concatenate(batches)

    @functools.cached_property
    def _sample(self) -> Any:
        def sample(seed, parameters, index):
            key = key_for(seed, Purpose.SAMPLE, index)
            return self.model.sample(self.model.prepare(parameters), key)

        return _on_devices(sample, in_axes=(None, None, 0))

    @functools.cached_property
    def _infer(self) -> Any:
        return self._inference(self.model.eval_inference)

    @functools.cached_property
    def _infer_as_in_training(self) -> Any:
        return self._inference(self.model.inference)

    @functools.cached_property
    def _infer_masked(self) -> Any:
        return self._inference(self.masked_inference)

    @functools.cached_property
    def _decode(self) -> Any:
        return _on_devices(
            lambda parameters, z: self.model.decode(self.model.prepare(parameters), z)
        )

    @functools.cached_property
    def _log_prior(self) -> Any:
        return _on_devices(
            lambda parameters, z: self.model.log_p_z(self.model.prepare(parameters), z)
        )

    def _inference(self, inference: Any) -> Any:
        model = self.model

        def infer(seed, chain, parameters, example):
            prepared = model.prepare(parameters)
            x = occlude(to_unit_range(example.image), example.mask)
            example = example._replace(image=x)
            log_joint = model.log_joint(prepared, x, example.mask)
            key = key_for(seed, Purpose.EVALUATION, example.index, chain)
            posterior = inference.infer(prepared.phi, key, example, log_joint)
            log_p_z, log_p_x_given_z = log_joint(posterior.z)
            reconstruction = model.decode(prepared, posterior.z)
            return Inferred(
                posterior.z, reconstruction, log_p_z, log_p_x_given_z, posterior.info
            )

        return _on_devices(infer, in_axes=(None, None, None, 0))


def _on_devices(one_example: Any, in_axes: tuple = (None, 0)) -> Any:
    """Vectorised over a device's examples (the last argument), then mapped over devices."""
    return jax.pmap(
        jax.vmap(one_example, in_axes=in_axes), axis_name=sharding.AXIS, in_axes=in_axes
    )


def _progress(batches: Any, total: int, what: str) -> Any:
    """Passes batches on under a progress bar, which stays silent where it is quickly done."""
    with tqdm(total=total, desc=what, unit="image", delay=3, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(jax.tree.leaves(batch)[0]))


def _concatenate(batches: Any) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)

