"""Runs the training loop: restore, step, log, sample, save; stops on values that are not finite."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from lfbm_jax import learning
from lfbm_jax.costs.describe import parameter_table
from lfbm_jax.devices import distributed, sharding
from lfbm_jax.errors import Interrupted
from lfbm_jax.files import terminal
from lfbm_jax.images import masks
from lfbm_jax.images.batches import Batches
from lfbm_jax.images.cache import Cache
from lfbm_jax.layers import precision
from lfbm_jax.learning.health import Monitor
from lfbm_jax.model import Model, Parameters
from lfbm_jax.reports import index
from lfbm_jax.runs import compiling, fitting, pictures, signals
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.runs.profiling import Profile
from lfbm_jax.runs.writers import MetricsWriter
from lfbm_jax.trained.api import TrainedModel


def train(
    config: ml_collections.ConfigDict,
    model: Model,
    data: Cache,
    workdir: pathlib.Path,
    profile_calls: int = 0,
) -> TrainedModel:
    """Trains to the configured number of steps, from the newest checkpoint if there is one.

    Args:
        config: the whole config.
        model: the model built from the config.
        data: the images.
        workdir: the work directory, whose lock the caller holds.
        profile_calls: the number of host calls to trace.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; the state has been saved.
        FloatingPointError: a metric or a parameter is not finite; the last checkpoint stays.
    """
    batches = _batches(config, data, workdir)
    num_steps = config.train.num_steps or config.train.num_epochs * batches.steps_per_epoch
    checkpoints = Checkpoints(workdir)
    state = learning.init_state(config, model, len(data.train.images))
    restored = checkpoints.restore(state)
    state = state if restored is None else restored
    step = int(state.step)
    trained = TrainedModel(config, model, state.parameters, step, state.average)
    if step >= num_steps:
        terminal.note(f"already trained: checkpoint of step {step} in {workdir}")
        return _fitted(trained, state, data, checkpoints)
    if step:
        state = _unfitted(state, model)
        trained = trained.with_parameters(state.parameters, step, state.average)
        terminal.note(f"resuming from step {step} in {workdir}")
        checkpoints.set_aside_after(step)
    elif distributed.is_first():
        terminal.note(parameter_table(model))
    with (
        contextlib.closing(checkpoints),
        contextlib.closing(MetricsWriter(workdir, step)) as writer,
        contextlib.closing(Profile(workdir, profile_calls)) as trace,
    ):
        run = _Run(trained, state, data, batches, num_steps, checkpoints, writer, workdir)
        return run.to_the_end(trace)


def _fitted(
    trained: TrainedModel, state: learning.TrainState, data: Cache, checkpoints: Checkpoints
) -> TrainedModel:
    """The model with a fitted prior, which its checkpoint lacks if the run was to be longer."""
    fitted = fitting.fitted(trained, data)
    if fitted is not trained:
        checkpoints.replace(_holding(fitted, state))
    return fitted


def _holding(trained: TrainedModel, state: learning.TrainState) -> learning.TrainState:
    """The state with the parameters and the average of a model."""
    average = trained.averaged
    return state._replace(
        parameters=trained.parameters, average=average.parameters if average else None
    )


def _unfitted(state: learning.TrainState, model: Model) -> learning.TrainState:
    """The state of a run that was shorter before, with the prior of before its fit."""

    def of(parameters: Parameters) -> Parameters:
        return parameters._replace(alpha=model.prior.unfitted(parameters.alpha))

    average = state.average and of(state.average)
    return state._replace(parameters=of(state.parameters), average=average)


def _batches(config: ml_collections.ConfigDict, data: Cache, workdir: pathlib.Path) -> Batches:
    """The batches of every step. Masks of occluded images are also written to disk."""
    visible = masks.of_training_images(config, np.arange(len(data.train.images)))
    if visible is not None:
        distributed.everywhere(lambda: masks.keep(visible, workdir / "masks.npy"))
    return Batches(data.train, config.seed, config.train.batch_size, visible)


class _Action(NamedTuple):
    """An action that is due every `period` steps, after the host call that reaches a multiple.

    Attributes:
        period: the number of steps between two actions; 0 for never.
        at_end: whether the action is also due after the last step.
        act: does the action.
    """

    period: int
    at_end: bool
    act: Callable[[], None]


class _Run:
    """A run in training: its state, and the actions that read or change the state."""

    def __init__(
        self,
        trained: TrainedModel,
        state: learning.TrainState,
        data: Cache,
        batches: Batches,
        num_steps: int,
        checkpoints: Checkpoints,
        writer: MetricsWriter,
        workdir: pathlib.Path,
    ):
        self._trained, self._data, self._batches = trained, data, batches
        self._checkpoints, self._writer = checkpoints, writer
        self._config, self._model = trained.config, trained.model
        self._workdir = workdir
        self._state = sharding.replicate(state)
        self._step = self._begin = trained.step
        self._num_steps = num_steps
        self._monitor = Monitor(workdir, self._config, self._model.prior.normalized, data.train)
        # None unless `tune_every` is positive.
        self._tune: Any = self._model.inference.tuner(self._model)
        self._metrics: dict[str, np.ndarray] = {}
        self._figures: dict[str, float] = {}
        self._timer = _Timer(trained.step)
        self._bar = terminal.bar(
            total=num_steps, initial=trained.step, desc="training", unit="step", dynamic_ncols=True
        )
        settings = self._config.train
        self._actions = (
            _Action(self._model.inference.tune_every, False, self._tune_inference),
            _Action(0, self._model.prior.fitted_afterwards, self._fit_prior),
            _Action(settings.log_every, True, self._collect_metrics),
            _Action(settings.sample_every, True, self._draw),
            _Action(1, True, self._write),
            _Action(settings.sample_every, True, self._report),
            _Action(settings.checkpoint_every, True, self._save),
        )

    def to_the_end(self, trace: Profile) -> TrainedModel:
        """Runs Algorithm 1 and all actions up to the last step; returns the trained model."""
        per_call = self._config.train.steps_per_call
        update = learning.make_update(self._config, self._model, self._batches.steps_per_epoch)
        with self._bar, signals.collected() as received:
            examples = self._batches(self._step, per_call)
            with self._timer.paused(), compiling.announced(self._bar, self._config):
                update = learning.compile_update(update, self._state, examples)
            while self._step < self._num_steps:
                # Calls end at multiples of steps_per_call, whichever step they begin at.
                end = min(self._num_steps, (self._step // per_call + 1) * per_call)
                with trace.call(self._step):
                    steps = end - self._step
                    self._state, metrics = update(self._state, examples, np.int32(steps))
                    if end < self._num_steps:  # The host prepares these while the devices compute.
                        examples = self._batches(end, per_call)
                    metrics = jax.tree.map(lambda m, n=steps: m[:n], jax.device_get(metrics))
                self._advance(end, metrics)
                for action in self._actions:
                    if self._is_due(action):
                        action.act()
                self._stop_if_asked(received)
        return self._present()

    def _advance(self, end: int, metrics: dict[str, np.ndarray]) -> None:
        """Records a finished call; raises FloatingPointError if a metric is not finite."""
        _check_finite(metrics, self._step)
        self._begin, self._step = self._step, end
        self._metrics, self._figures = metrics, {}
        self._bar.update(end - self._begin)

    def _is_due(self, action: _Action) -> bool:
        if action.at_end and self._step == self._num_steps:
            return True
        period = action.period
        return bool(period) and self._step // period > self._begin // period

    def _present(self) -> TrainedModel:
        """The model with its current parameters."""
        return self._trained.with_parameters(
            self._state.parameters, self._step, self._state.average
        )

    def _tune_inference(self) -> None:
        examples = self._batches.spread(self._model.inference.tune_images)
        with precision.of_networks(self._config):
            phi = sharding.replicate(self._tune(self._state.parameters, examples))
        self._state = self._state._replace(parameters=self._state.parameters._replace(phi=phi))

    def _fit_prior(self) -> None:
        with self._timer.paused():
            self._state = _holding(fitting.fit(self._present(), self._data), self._state)

    def _collect_metrics(self) -> None:
        figures = {f"train/{name}": float(values[-1]) for name, values in self._metrics.items()}
        rate = self._timer.rate(self._step)
        figures["time/images_per_second"] = rate * self._config.train.batch_size
        figures["epoch"] = self._step / self._batches.steps_per_epoch
        if "train/mse" in figures:
            self._bar.set_postfix(mse=f"{figures['train/mse']:.4f}", refresh=False)
        self._figures |= figures

    def _draw(self) -> None:
        with self._timer.paused():
            drawn = pictures.draw(self._present(), self._data, self._writer)
        # A prior that has just been fitted is not the one that z was inferred with.
        learned = not self._model.prior.fitted_afterwards
        if learned and "sample/log_p_z" in drawn and "log_joint" in self._metrics:
            last = {name: values[-1] for name, values in self._metrics.items()}
            inferred = float(last["log_joint"] + last["loss_generator"])
            drawn["sample/mismatch"] = drawn["sample/log_p_z"] - inferred
        self._figures |= drawn

    def _write(self) -> None:
        if not self._figures:
            return
        self._writer.scalars(self._step, self._figures)
        for message in self._monitor.update(self._step, self._figures):
            self._bar.write(f"warning: step {self._step}: {message}")

    def _report(self) -> None:
        with self._timer.paused():
            index.write(self._workdir)

    def _save(self) -> None:
        with self._timer.paused():
            self._checkpoints.save(self._state)

    def _stop_if_asked(self, received: list[int]) -> None:
        """Saves and raises Interrupted if any process got a signal; all stop at the same step."""
        signum = distributed.largest(received[0] if received else 0)
        if signum:
            self._save()
            raise Interrupted(signum, self._step)


def _check_finite(metrics: dict[str, np.ndarray], step: int) -> None:
    """Raises FloatingPointError for the first step and metric that is not finite."""
    finite = np.isfinite(np.stack(list(metrics.values())))
    if not finite.all():
        row = np.flatnonzero(~finite.all(axis=0))[0]
        name = list(metrics)[np.flatnonzero(~finite[:, row])[0]]
        raise FloatingPointError(
            f"train/{name} is {metrics[name][row]} at step {step + row + 1}: training stops, the"
            " last checkpoint stays; lower optimizer.*.learning_rate or inference.step_size"
        )


class _Timer:
    """Measures steps per second since the last reading, without time for pictures and files."""

    def __init__(self, step: int):
        self._step = step
        self._begin = time.perf_counter()

    def rate(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / (now - self._begin)
        self._step, self._begin = step, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._begin += time.perf_counter() - begin
