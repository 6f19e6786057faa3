"""The one compiled iteration, for every objective.

Algorithm 1 infers z for every image of a batch and then takes one step of Adam on the prior (Eq. 6)
and on the generator (Eq. 7). Other objectives may take several such updates in turn.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax.devices import host_memory, sharding
from lfbm_jax.images.pixels import flip, occlude, to_unit_range
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import precision
from lfbm_jax.learning import averages, chains, optimizers
from lfbm_jax.learning.state import TrainState
from lfbm_jax.model import Example, Model, Parameters, Tree
from lfbm_jax.objectives.base import Keys, Objective, Update

Metrics = dict[str, jax.Array]


def make_update(
    config: ml_collections.ConfigDict,
    model: Model,
    steps_per_epoch: int,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, Example, int | np.integer], tuple[TrainState, Metrics]]:
    """The compiled update: several iterations of Algorithm 1, on all devices or on `devices`.

    Returns:
        A function of a replicated state (donated), examples with leading axes
        [devices, steps, shard] and the number of steps to take, at most `steps`. The function
        returns the new state and metrics with a leading axis [steps].
    """
    # jit, so that the iteration is traced once although it is used twice.
    iteration = jax.jit(functools.partial(_iteration, config, model, steps_per_epoch))

    @functools.partial(
        sharding.on_every_device,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        donate_argnums=(0,),
        devices=devices,
    )
    @precision.of_networks(config)
    def update(state: TrainState, batches: Example, num_steps: jax.Array):
        def body(i, carry):
            state, history = carry
            state, metrics = iteration(state, jax.tree.map(lambda array: array[i], batches))
            history = jax.tree.map(lambda past, new: past.at[i].set(new), history, metrics)
            return state, history

        steps = batches.index.shape[0]
        first = jax.tree.map(lambda array: array[0], batches)
        _, metrics = _zeros_like_result(iteration, state, first)
        history = jax.tree.map(lambda m: jnp.stack([m] * steps), metrics)
        return jax.lax.fori_loop(0, num_steps, body, (state, history))

    return update


def compile_update(update: Callable, state: TrainState, examples: Example) -> Callable:
    """Compiles `make_update`'s function for arguments of these shapes, before the first call.

    The memory used by the compiler is released before the first call, so the peak is the larger of
    compilation and training, not their sum.
    """
    compiled = sharding.compile_ahead(update, state, examples, np.int32(1))
    host_memory.release()
    return compiled


def _iteration(
    config: ml_collections.ConfigDict,
    model: Model,
    steps_per_epoch: int,
    state: TrainState,
    batch: Example,
) -> tuple[TrainState, Metrics]:
    """Runs one iteration on one device's share of a batch: the objective's updates in turn."""
    begin = 0
    metrics: Metrics = {}
    for update in _updates(config, model.objective):
        take = functools.partial(_take, config, model, steps_per_epoch, batch, update)
        state, found = _repeated(take, begin, update.times, state)
        metrics |= found
        begin += update.times
    state = state._replace(step=state.step + 1)
    if config.train.ema_decay:
        state = state._replace(average=averages.updated(config.train.ema_decay, state))
    return state, metrics


def _updates(config: ml_collections.ConfigDict, objective: Objective) -> Iterator[Update]:
    """The updates of one iteration.

    With `train.prior_inference_updates` = U > 1 (Table 10), U - 1 updates of all other groups
    precede the update that also changes the generator. So the generator takes its step together
    with the last of the U, not after it, which saves an inference (ours).
    """
    more = config.train.prior_inference_updates - 1
    for update in objective.updates:
        others = tuple(name for name in update.changes if name != "generator")
        if more and others and "generator" in update.changes:
            yield update._replace(changes=others, times=more * update.times)
        yield update


def _repeated(
    take: Callable[[jax.Array | int, TrainState], tuple[TrainState, Metrics]],
    begin: int,
    times: int,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """The state after `times` steps of one update, and the metrics of the last step."""
    if times == 1:
        return take(begin, state)
    _, metrics = _zeros_like_result(take, begin, state)
    return jax.lax.fori_loop(
        begin, begin + times, lambda number, carry: take(number, carry[0]), (state, metrics)
    )


def _take(
    config: ml_collections.ConfigDict,
    model: Model,
    steps_per_epoch: int,
    batch: Example,
    update: Update,
    number: jax.Array | int,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """Takes one step of an update, from inference to Adam: step `number` of the iteration."""
    gradients, metrics, z = _gradients(config, model, batch, update, number, state)
    parameters, opt_state, figures = optimizers.step(
        config, steps_per_epoch, state.step, gradients, state.parameters, state.opt_state
    )
    kept = chains.keep(state.chains, batch, z)
    state = state._replace(parameters=parameters, opt_state=opt_state, chains=kept)
    return state, metrics | figures


def _gradients(
    config: ml_collections.ConfigDict,
    model: Model,
    batch: Example,
    update: Update,
    number: jax.Array | int,
    state: TrainState,
) -> tuple[dict[str, Tree], Metrics, jax.Array | None]:
    """Gradients and metrics of the weighted mean loss over the examples of all devices.

    A device splits its share into microbatches and sums their gradients with respect to the
    prepared parameters, in float32 at least. The sum is propagated through `prepare` once at the
    end.

    Returns:
        The gradients of the groups that the update changes, by name; metrics; and z of this
        device's examples, [microbatches, at most shard, d], or None if no z was inferred.
    """
    total_weight = jax.lax.psum(jnp.sum(batch.weight), sharding.AXIS)
    prepared, through_prepare = jax.vjp(model.prepare, state.parameters)
    step = state.step

    def share_of_loss(prepared, examples, total_weight):
        prepared = _constant_but(update.changes, prepared)

        def one_example(example):
            keys = Keys(
                key_for(config.seed, Purpose.INFERENCE, step, example.index, number),
                key_for(config.seed, Purpose.PRIOR_LOSS, step, example.index, number),
            )
            x, mask = to_unit_range(example.image), example.mask
            if config.data.horizontal_flip:
                key = key_for(config.seed, Purpose.FLIP, step, example.index)
                x, mask = jax.tree.map(functools.partial(flip, key), (x, mask))
            example = example._replace(image=occlude(x, mask), mask=mask)
            return update.loss(model, prepared, keys, example)

        def share(values):
            return jnp.sum(values * examples.weight.astype(values.dtype)) / total_weight

        losses = jax.vmap(one_example)(examples)
        return share(losses.value), (jax.tree.map(share, losses.metrics), losses.z)

    of_microbatch = jax.jit(jax.grad(share_of_loss, has_aux=True))  # jit: one trace, two uses

    def add_microbatch(total, examples):
        gradients, (metrics, z) = of_microbatch(prepared, examples, total_weight)
        return jax.tree.map(jnp.add, total, (gradients, metrics)), z

    examples = chains.take_up(state.chains, batch)
    microbatches = _microbatches(examples, config.train.microbatch_size)
    first = jax.tree.map(lambda array: array[0], microbatches)
    gradients, (metrics, _) = _zeros_like_result(of_microbatch, prepared, first, total_weight)
    # A sum in bfloat16 stops growing once its terms are below half of its last digit.
    gradients = jax.tree.map(_at_least_float32, gradients)
    (gradients, metrics), z = jax.lax.scan(add_microbatch, (gradients, metrics), microbatches)
    gradients = jax.tree.map(lambda g, like: g.astype(like.dtype), gradients, prepared)
    (gradients,) = through_prepare(gradients)
    gradients = {name: gradients.groups()[name] for name in update.changes}
    gradients, metrics = jax.lax.psum((gradients, metrics), sharding.AXIS)
    return *_penalized(model, state.parameters.beta, gradients, metrics), z


def _constant_but(changes: tuple[str, ...], prepared: Parameters) -> Parameters:
    """The same parameters, differentiable only in the groups named in `changes`.

    This avoids computing the other gradients, which the compiler would not remove by itself.
    """
    groups = prepared.groups()
    constant = {name: groups[name] for name in groups.keys() - set(changes)}
    return Parameters.of_groups(groups | jax.lax.stop_gradient(constant))


def _penalized(
    model: Model, beta: Tree, gradients: dict[str, Tree], metrics: Metrics
) -> tuple[dict[str, Tree], Metrics]:
    """The gradients and metrics, with the objective's `weight_penalty` added if it has one."""
    penalty, pull_back = jax.vjp(model.objective.weight_penalty, beta)
    if penalty is None or "generator" not in gradients:
        return gradients, metrics
    (slope,) = pull_back(jnp.ones_like(penalty))
    of_generator = jax.tree.map(jnp.add, gradients["generator"], slope)
    return gradients | {"generator": of_generator}, metrics | {"loss_regularizer": penalty}


def _zeros_like_result(function: Callable, *args) -> Any:
    """Zeros with the structure, shapes and types of function(*args)."""
    result = jax.eval_shape(function, *args)
    return jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), result)


def _at_least_float32(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _microbatches(batch: Example, size: int) -> Example:
    """The batch with leading axes [microbatches, at most `size`], padded with weight zero."""
    total = batch.index.shape[0]
    count = -(-total // (size or total))
    fill = -total % count

    def split(array):
        filled = jnp.concatenate([array, array[:fill]])
        return filled.reshape(count, -1, *array.shape[1:])

    weight = jnp.pad(batch.weight, (0, fill)).reshape(count, -1)
    return jax.tree.map(split, batch)._replace(weight=weight)
