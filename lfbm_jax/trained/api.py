"""A trained model for notebooks, scripts and tasks, with NumPy arrays in and out."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from lfbm_jax.devices import sharding
from lfbm_jax.errors import UserError
from lfbm_jax.files import terminal
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.trained import arrays
from lfbm_jax.trained.programs import Inferred, Programs, Samples

BATCH_SIZE = 100
SMALL_BATCH_SIZE = 10  # A few images must not cost as much as a hundred.
MOST_REDRAWN = 0.01  # The largest share of draws that may overflow, if they are not few:
FEW = 5  # tasks draw a hundred at a time.
ATTEMPTS = 10


class TrainedModel:
    """A model with its parameters.

    Images x are [N, H, W, C], uint8 or floats in [-1, 1]. Returned images are floats in [-1, 1].
    Random results for an image depend only on the seed and the number of the image, which is its
    position in x unless an argument says otherwise.

    Inputs are processed in padded batches of `batch_size` examples. Without this argument, up to 10
    examples form one batch of 10, and more are cut into batches of 100. Each method compiles once
    per batch size and per type of image.

    All methods raise a UserError of one line if an array is not as described.

    Attributes:
        config: the config of the run.
        model: the parts of the model, as pure functions.
        step: the number of training iterations.
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
        self._programs = Programs(config, model)

    def with_parameters(
        self, parameters: Parameters, step: int, average: Parameters | None = None
    ) -> "TrainedModel":
        """Returns the same model with other parameters, without compiling anything again."""
        other = copy.copy(self)  # Shares the compiled functions.
        other.step = step
        other._parameters = sharding.replicate(parameters)
        other._average = average
        return other

    @property
    def averaged(self) -> "TrainedModel | None":
        """The same model with the moving average of its parameters; None if none was kept."""
        return self.with_parameters(self._average, self.step) if self._average else None

    @property
    def parameters(self) -> Parameters:
        """Alpha, beta and phi, on every device."""
        return self._parameters

    @property
    def prior_is_normalized(self) -> bool:
        """Whether log p(z) is normalized; if not, it is known up to an additive constant."""
        return self.model.prior.normalized

    @property
    def prior_is_fitted(self) -> bool:
        """Whether the prior is ready; False if it is fitted after training (RAE) and is not yet."""
        return self.model.prior.is_fitted(self._parameters.alpha)

    def sample(
        self, num: int, seed: int = 0, batch_size: int | None = None, first: int = 0
    ) -> Samples:
        """Draws ancestral samples: z from the prior (Eq. 1), then the mean image g(z).

        A sample depends only on the seed and its number; `first` is the number of the first one.
        Inverting a flow overflows at a few draws in 100,000. Such draws are reported and made
        again, so samples follow the prior given that nothing overflows.

        Raises:
            FloatingPointError: more than five draws and more than 1 % of them overflow, or one does
                so ten times.
        """
        arrays.check_count(num)
        self.check_prior()
        index = np.arange(first, first + num, dtype=np.int32)
        sample = functools.partial(self._programs.sample, np.int32(seed))
        samples = self._map(sample, index, batch_size, "sampling")
        (overflowed,) = np.nonzero(~_are_finite(samples))
        return self._redrawn(samples, overflowed, index, seed) if len(overflowed) else samples

    def _redrawn(
        self, samples: Samples, overflowed: np.ndarray, index: np.ndarray, seed: int
    ) -> Samples:
        """Returns the samples with those in the rows `overflowed` drawn again until finite."""
        fault = f"{len(overflowed)} of {len(index)} draws from the prior overflowed"
        print(f"warning: step {self.step}: {fault}", flush=True)
        samples = Samples(*(array.copy() for array in samples))
        rows = overflowed
        for attempt in range(1, ATTEMPTS):
            if len(rows) > max(FEW, MOST_REDRAWN * len(index)):
                break
            sample = functools.partial(
                self._programs.sample_again, np.int32(seed), np.int32(attempt)
            )
            for array, drawn in zip(samples, self._map(sample, index[rows]), strict=True):
                array[rows] = drawn
            rows = overflowed[~_are_finite(Samples(*(array[overflowed] for array in samples)))]
            if not len(rows):
                return samples
        raise FloatingPointError(f"step {self.step}: {fault}; lower the learning rates")

    def infer(
        self,
        x: np.ndarray,
        seed: int = 0,
        batch_size: int | None = None,
        training_settings: bool = False,
        masks: np.ndarray | None = None,
        chain: int = 0,
        first: int = 0,
    ) -> Inferred:
        """Infers the latent vectors of images.

        Args:
            x: the images, [N, H, W, C].
            seed: seeds the chains, together with the number of the image.
            batch_size: the number of images per compiled call.
            training_settings: whether to infer as in training instead of as in evaluation. A prior
                that is fitted after training is then N(0, I) for the chains, as it was in training;
                log_p_z is that of `log_prior` all the same.
            masks: 1 where a pixel is visible, 0 where it is hidden, [N, H, W, 1]; None if all are
                visible. Hidden pixels are ignored and do not count in log_p_x_given_z. With masks,
                evaluation infers by `masked_inference`.
            chain: 0, 1, ...: selects one of several independent starts for each image.
            first: the number of the first image; the others follow. If the chunks of a data set are
                numbered this way, the results are those of one call for the whole data set.
        """
        x = arrays.images(x, self.image_shape)
        if masks is not None:
            masks = arrays.masks(masks, len(x), self.image_shape)
        index = np.arange(first, first + len(x), dtype=np.int32)
        weight = np.ones(len(x), np.float32)
        if training_settings:
            infer = self._programs.infer_as_in_training
        else:
            infer = self._programs.infer if masks is None else self._programs.infer_masked
        infer = functools.partial(infer, np.int32(seed), np.int32(chain))
        return self._map(infer, Example(x, index, weight, masks), batch_size, "inferring")

    def reconstruct(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """Returns the images g(z) at the z inferred from x, [N, H, W, C] (section 4.2)."""
        return self.infer(x, seed).reconstruction

    def score(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """Returns the scores of images, [N]; they are low for anomalies (section 4.4).

        The score is log p(x, z) at the inferred z, in nats; with an energy prior it is known up to
        a constant. An objective with a score of its own, named by `model.objective.score_name`,
        takes that instead.

        Raises:
            FloatingPointError: a score is not finite.
        """
        if self.model.objective.score_name:
            x = arrays.images(x, self.image_shape)
            index, weight = np.arange(len(x), dtype=np.int32), np.ones(len(x), np.float32)
            examples = Example(x, index, weight)
            scores = self._map(self._programs.score, examples, what="scoring")
        else:
            inferred = self.infer(x, seed)
            scores = inferred.log_p_z + inferred.log_p_x_given_z
        if not np.isfinite(scores).all():
            raise FloatingPointError(
                "a score is not finite; lower eval_inference.step_size or the learning rates"
            )
        return scores

    def inpaint(
        self, x: np.ndarray, mask: np.ndarray, num: int = 1, seed: int = 0
    ) -> np.ndarray:
        """Completes images of which only some pixels are visible (section 4.3).

        Args:
            x: the images, [N, H, W, C].
            mask: 1 where a pixel is visible, else 0; [H, W] for all images or [N, H, W], with or
                without a last axis of 1.
            num: the number of completions per image, from different starts.
            seed: seeds the chains.

        Returns:
            Images [N, num, H, W, C] in [-1, 1], whose visible pixels are those of x.
        """
        arrays.check_count(num)
        x = arrays.images(x, self.image_shape)
        masks = arrays.masks(mask, len(x), self.image_shape)
        every_x, every_mask = (np.repeat(array, num, axis=0) for array in (x, masks))
        completed = self.infer(every_x, seed, masks=every_mask).reconstruction
        completed = completed.reshape(len(x), num, *self.image_shape)
        visible = to_unit_range(x).astype(completed.dtype)
        return np.where(masks[:, None], visible[:, None], completed)

    def interpolate(
        self, x1: np.ndarray, x2: np.ndarray, num: int, seed: int = 0
    ) -> np.ndarray:
        """Returns images between the reconstructions of x1 and of x2.

        The path from z1 to z2 turns the direction along a great circle and changes the norm
        linearly. Gaussian vectors have norms of about sqrt(d), and a straight line would pass
        through smaller ones. If the prior is a flow, the path runs between the base vectors
        f^-1(z), and f maps it back.

        Args:
            x1, x2: images, N of each, [N, H, W, C].
            num: the number of images per path, including both ends; at least 2.
            seed: seeds the chains.

        Returns:
            Images [N, num, H, W, C] in [-1, 1].
        """
        arrays.check_count(num, least=2)
        x1, x2 = (arrays.images(x, self.image_shape) for x in (x1, x2))
        if len(x1) != len(x2):
            raise UserError(f"x1 and x2: {len(x1)} and {len(x2)} images; give as many each")
        z1, z2 = (np.repeat(self.infer(x, seed).z, num, axis=0) for x in (x1, x2))
        fraction = np.tile(np.linspace(0, 1, num, dtype=z1.dtype), len(x1))
        images = self._map(self._programs.interpolate, (z1, z2, fraction))
        return images.reshape(len(x1), num, *self.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of one image."""
        side = self.config.data.image_size
        return side, side, self.config.data.channels

    @property
    def masked_inference(self) -> Any:
        """The method that infers z from incomplete images (see `Programs`)."""
        return self._programs.masked_inference

    @property
    def caveat(self) -> dict[str, str]:
        """The caveat that reports on incomplete images carry; {} if there is none."""
        if not self.config.data.mask or self.model.inference.takes_masks:
            return {}
        return {
            "caveat": "an inference network that learned from incomplete images, which the paper"
            " (section 4.6) calls such models incapable of"
        }

    def decode(self, z: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Returns the images g(z), [N, H, W, C] in [-1, 1], of latent vectors [N, d]."""
        z = arrays.latents(z, self.config.model.latent_dim)
        return self._map(self._programs.decode, z, batch_size)

    def log_prior(self, z: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Returns log p(z) in nats, [N], of latent vectors [N, d] (Eq. 5).

        With an energy prior it is known up to a constant.
        """
        self.check_prior()
        z = arrays.latents(z, self.config.model.latent_dim)
        return self._map(self._programs.log_prior, z, batch_size)

    def check_prior(self) -> None:
        """Raises a UserError if the prior is fitted after training and is not fitted yet."""
        if not self.prior_is_fitted:
            raise UserError(
                f"the prior of this checkpoint, of step {self.step}, is not fitted yet: finish"
                " training (the same command with --mode=train), or use --mode=evaluate, which"
                " fits it first"
            )

    def _map(
        self, function: Any, examples: Any, batch_size: int | None = None, what: str = ""
    ) -> Any:
        """Applies a compiled function to all examples; `what` labels the progress bar, if any."""
        total = len(jax.tree.leaves(examples)[0])
        if batch_size is None:
            batch_size = SMALL_BATCH_SIZE if total <= SMALL_BATCH_SIZE else BATCH_SIZE
        batches = sharding.map_over_examples(function, self._parameters, examples, batch_size)
        # With a single batch, a bar would only jump from 0 to 100 %.
        shows_progress = what and total > batch_size
        return _concatenate(_progress(batches, total, what) if shows_progress else batches)

    def map(
        self,
        one_example: Callable[[Parameters, Example], Any],
        examples: Example,
        batch_size: int | None = None,
    ) -> Any:
        """Applies a function of (prepared parameters, example) to N examples; [N, ...] each.

        This is for tasks that need more than the other methods offer. The function is vectorised,
        compiled and spread over the devices as theirs are.
        """

        def prepared(parameters, example):
            return one_example(self.model.prepare(parameters), example)

        return self._map(self._programs.on_devices(prepared), examples, batch_size, "images")


def _are_finite(samples: Samples) -> np.ndarray:
    """Whether latent vector and image of each sample are finite, [N]."""
    finite = (np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in samples)
    return np.logical_and(*finite)


def _progress(batches: Any, total: int, what: str) -> Any:
    """Yields the batches and shows a progress bar, which appears only if the work takes a while."""
    with terminal.bar(total=total, desc=what, unit="image", delay=3, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(jax.tree.leaves(batch)[0]))


def _concatenate(batches: Any) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)

