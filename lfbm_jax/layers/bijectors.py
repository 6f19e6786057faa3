"""The invertible layers of a normalizing flow on a vector, as distrax bijectors.

A flow maps a base vector z0 to a latent vector z (`forward`) and back (`inverse`). Langevin
inference evaluates log p(z), and so the inverse direction z -> z0, at every step. Every layer here
is therefore parameterised in the inverse direction, which makes the frequent computation cheap and
sampling more expensive.

All bijectors act on one vector of shape [d]; `jax.vmap` makes batches. Each direction returns the
transformed vector and the logarithm of the absolute Jacobian determinant, a scalar in nats.
"""

from collections.abc import Callable

import distrax
import jax
import jax.numpy as jnp

# The authors' actnorm and output layers multiply their log-scales by this factor, so that under
# Adam log-scales change three times as fast as shifts.
LOG_SCALE_FACTOR = 3.0


class ActNorm(distrax.Bijector):
    """Elementwise affine layer: z0 = (z + bias) * exp(3 * log_scale).

    The activation normalisation of Glow (Kingma and Dhariwal, 2018, section 3.1), without
    data-dependent initialisation. log|det dz0/dz| = 3 * sum(log_scale).
    """

    def __init__(self, bias: jax.Array, log_scale: jax.Array):
        super().__init__(event_ndims_in=1)
        self._bias = bias
        self._log_scale = LOG_SCALE_FACTOR * log_scale

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x * jnp.exp(-self._log_scale) - self._bias, -jnp.sum(self._log_scale)

    def inverse_and_log_det(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (y + self._bias) * jnp.exp(self._log_scale), jnp.sum(self._log_scale)


class InvertibleLinear(distrax.Bijector):
    """Multiplication by a square matrix: z0 = z W.

    The 1 x 1 convolution of Glow (Kingma and Dhariwal, 2018, section 3.2) for a vector, with a
    plain matrix of d * d parameters.

    Args:
        matrix: W, [d, d], invertible.
        log_abs_det: log|det W|, []. The caller computes it once for many vectors, because it costs
            O(d^3) and depends only on the parameters.
    """

    def __init__(self, matrix: jax.Array, log_abs_det: jax.Array):
        super().__init__(event_ndims_in=1)
        self._matrix = matrix
        self._log_abs_det = log_abs_det

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.linalg.solve(self._matrix.T, x), -self._log_abs_det

    def inverse_and_log_det(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y @ self._matrix, self._log_abs_det


class AffineCoupling(distrax.Bijector):
    """An affine map of the second half of the vector, with coefficients computed from the first.

    z0 = [z1, (z2 + shift(z1)) * exp(log_scale(z1))].

    Args:
        conditioner: maps z1 [d // 2] to (shift, log_scale), each [d - d // 2]. In Glow the scale
            is sigmoid(raw + 2), which is near 1 if the network returns zeros (Kingma and
            Dhariwal, 2018, table 1).
    """

    def __init__(self, conditioner: Callable[[jax.Array], tuple[jax.Array, jax.Array]]):
        super().__init__(event_ndims_in=1)
        self._conditioner = conditioner

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = _halves(x)
        shift, log_scale = self._conditioner(first)
        second = second * jnp.exp(-log_scale) - shift
        return jnp.concatenate([first, second]), -jnp.sum(log_scale)

    def inverse_and_log_det(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = _halves(y)
        shift, log_scale = self._conditioner(first)
        second = (second + shift) * jnp.exp(log_scale)
        return jnp.concatenate([first, second]), jnp.sum(log_scale)


class Reverse(distrax.Bijector):
    """Reverses the vector, so that the next coupling transforms the other half."""

    def __init__(self):
        super().__init__(event_ndims_in=1)

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x[::-1], jnp.zeros((), x.dtype)

    def inverse_and_log_det(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y[::-1], jnp.zeros((), y.dtype)


def _halves(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    first, second = jnp.split(vector, [vector.shape[0] // 2])
    return first, second
