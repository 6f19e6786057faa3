"""The training loop: restore, step, log, sample, save; stop on values that are not finite."""

import contextlib
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from lfbm_jax import learning, precision
from lfbm_jax.costs.describe import parameter_table
from lfbm_jax.devices import distributed, sharding
from lfbm_jax.errors import Interrupted
from lfbm_jax.images import masks
from lfbm_jax.images.batches import Batches
from lfbm_jax.images.cache import Cache
from lfbm_jax.learning.health import Monitor
from lfbm_jax.model import Example, Model
from lfbm_jax.reports import plots
from lfbm_jax.runs import parts
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.runs.profiling import Profile
from lfbm_jax.runs.workdir import lock
from lfbm_jax.runs.writers import Writer
from lfbm_jax.trained.api import TrainedModel

SAMPLE_GRID = 64
RECONSTRUCTIONS = 20
FIT_IMAGES = 10_000
SECOND_SIGNAL_SECONDS = 1.0


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
        model: built from it.
        data: the images.
        workdir: the work directory.
        profile_calls: how many host calls to write a trace of.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        FloatingPointError: a metric or a parameter is not finite; the last checkpoint stays.
        UserError: another process is training in the work directory, or it cannot be written.
    """
    with distributed.everywhere(lambda: lock(workdir)):
        return _train(config, model, data, workdir, profile_calls)


def _train(
    config: ml_collections.ConfigDict,
    model: Model,
    data: Cache,
    workdir: pathlib.Path,
    profile_calls: int,
) -> TrainedModel:
    visible = masks.of_training_images(config, np.arange(len(data.train.images)))
    if visible is not None:
        distributed.everywhere(lambda: masks.keep(visible, workdir / "masks.npy"))
    batches = Batches(
        data.train,
        config.seed,
        config.train.batch_size,
        tuple(config.data.exclude_labels),
        visible,
    )
    num_steps = config.train.num_steps or config.train.num_epochs * batches.steps_per_epoch
    checkpoints = Checkpoints(workdir)
    state = learning.init_state(config, model, len(data.train.images))
    restored = checkpoints.restore(state)
    state = state if restored is None else restored
    step = int(state.step)
    if step >= num_steps:
        print(f"already trained: checkpoint of step {step} in {workdir}", flush=True)
        return TrainedModel(config, model, state.parameters, step, state.average)
    if step:
        print(f"resuming from step {step} in {workdir}", flush=True)
        checkpoints.set_aside_after(step)
    elif distributed.is_first():
        print(parameter_table(model), flush=True)

    update = learning.make_update(config, model, batches.steps_per_epoch)
    tune = None
    if hasattr(model.inference, "tuner"):
        tune = precision.of_networks(config)(model.inference.tuner(model))
    trained = TrainedModel(config, model, state.parameters, step)
    state = sharding.replicate(state)
    writer = Writer(workdir, step)
    settings = config.train
    bar = tqdm(total=num_steps, initial=step, desc="training", unit="step", dynamic_ncols=True)
    timer = _Timer(step)
    monitor = Monitor(workdir, config, model.prior.normalized, data.train)
    trace = Profile(workdir, profile_calls)
    with (
        contextlib.closing(writer),
        contextlib.closing(checkpoints),
        contextlib.closing(trace),
        bar,
        _signals() as received,
    ):
        examples = batches(step, settings.steps_per_call)
        update = learning.compile_update(update, state, examples)
        while step < num_steps:
            # Calls end at multiples of steps_per_call whatever the step they begin at.
            end = min(num_steps, (step // settings.steps_per_call + 1) * settings.steps_per_call)
            with trace.call(step):
                state, metrics = update(state, examples, np.int32(end - step))
                if end < num_steps:  # Picked while the devices are at work.
                    examples = batches(end, settings.steps_per_call)
                metrics = jax.tree.map(lambda m, n=end - step: m[:n], jax.device_get(metrics))
            _check_finite(metrics, step)
            begin, step = step, end
            bar.update(end - begin)

            def passed(every, begin=begin, end=end):
                return end // every > begin // every

            def due(every, end=end, passed=passed):
                return passed(every) or end == num_steps

            if tune and passed(model.inference.tune_every):
                state = _tune(tune, state, batches.spread(model.inference.tune_images))
            if end == num_steps and hasattr(model.prior, "fit"):
                with timer.paused():
                    fitted = trained.with_parameters(state.parameters, step)
                    state = _fit_prior(fitted, state, batches.spread(FIT_IMAGES))
            figures = {}
            if due(settings.log_every):
                figures = {f"train/{name}": float(values[-1]) for name, values in metrics.items()}
                figures["time/images_per_second"] = timer.rate(step) * settings.batch_size
                figures["epoch"] = step / batches.steps_per_epoch
                bar.set_postfix(mse=f"{figures['train/mse']:.4f}", refresh=False)
            if due(settings.sample_every):
                with timer.paused():
                    present = trained.with_parameters(state.parameters, step)
                    log_p_z = _draw(present, data, writer)
                    figures |= _monitor(present, data)
                figures["sample/log_p_z"] = log_p_z
                if "log_joint" in metrics:  # Some baselines have no density while they learn.
                    inferred = float(metrics["log_joint"][-1] + metrics["loss_generator"][-1])
                    figures["sample/mismatch"] = log_p_z - inferred
            if figures:
                writer.scalars(step, figures)
                for message in monitor.update(step, figures):
                    bar.write(f"warning: step {step}: {message}")
            # A signal to one process stops all of them, at the same step.
            signum = distributed.largest(received[0] if received else 0)
            if due(settings.checkpoint_every) or signum:
                with timer.paused():
                    checkpoints.save(state)
            if signum:
                raise Interrupted(signum, step)
    return trained.with_parameters(state.parameters, step, state.average)


def _draw(trained: TrainedModel, data: Cache, writer: Writer) -> float:
    """Writes a grid of samples, and held-out images above their reconstructions.

    Where training images are occluded, some of them also: whole, occluded and recovered.

    Returns:
        The mean log p(z) of the samples, in nats.
    """
    z, samples = trained.sample(SAMPLE_GRID, seed=trained.config.seed)
    writer.image(trained.step, "samples", plots.grid(samples))
    originals = (data.test or data.train).spread(RECONSTRUCTIONS)
    seed, batch = trained.config.seed, RECONSTRUCTIONS  # Not padded: long chains are dear.
    inferred = trained.infer(originals, seed, batch)
    picture = plots.pairs(originals / 127.5 - 1, inferred.reconstruction)
    writer.image(trained.step, "reconstructions", picture)
    rows = data.train.rows(RECONSTRUCTIONS)
    visible = masks.of_training_images(trained.config, rows)
    if visible is not None:
        originals = data.train.images[rows]
        inferred = trained.infer(originals, seed, batch, masks=visible)
        x = originals / 127.5 - 1
        picture = plots.stacked((x, x * visible, inferred.reconstruction))
        writer.image(trained.step, "recoveries", picture)
    return float(trained.log_prior(z).mean())


def _monitor(trained: TrainedModel, data: Cache) -> dict[str, float]:
    """What those of the config's tasks say that can be asked during training."""
    figures = {}
    for name in trained.config.tasks:
        task = parts.find("tasks", name, "tasks")
        if hasattr(task, "monitor"):
            found = task.monitor(trained, data, trained.config)
            figures |= {f"{name}/{figure}": value for figure, value in found.items()}
    return figures


def _fit_prior(
    trained: TrainedModel, state: learning.TrainState, examples: Example
) -> learning.TrainState:
    """The state with a baseline's prior fitted to what is inferred from training examples."""
    seed = trained.config.seed
    z = trained.infer(examples.image, seed, training_settings=True, masks=examples.mask).z
    print(f"fitting the prior to {len(z)} latent vectors ...", flush=True)
    alpha = trained.model.prior.fit(jax.device_get(state.parameters.alpha), z, seed)
    alpha = sharding.replicate(alpha)
    average = state.average and state.average._replace(alpha=alpha)
    return state._replace(parameters=state.parameters._replace(alpha=alpha), average=average)


def _tune(tune: Callable, state: learning.TrainState, examples: Example) -> learning.TrainState:
    """The state with a baseline's inference tuned on training examples."""
    phi = sharding.replicate(tune(state.parameters, examples))
    return state._replace(parameters=state.parameters._replace(phi=phi))


def _check_finite(metrics: dict[str, np.ndarray], step: int) -> None:
    """FloatingPointError naming the first step and metric that is not finite."""
    finite = np.isfinite(np.stack(list(metrics.values())))
    if not finite.all():
        row = np.flatnonzero(~finite.all(axis=0))[0]
        name = list(metrics)[np.flatnonzero(~finite[:, row])[0]]
        raise FloatingPointError(
            f"train/{name} is {metrics[name][row]} at step {step + row + 1}: training stops, the"
            " last checkpoint stays; lower optimizer.*.learning_rate or inference.step_size"
        )


class _Timer:
    """Steps a second since the last reading, without the time spent on pictures and files."""

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


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT in a list instead of dying; a second one of a kind kills.

    Not within a second: a dying parent of many threads, or a scheduler that tells a whole group
    and its members, sends one signal several times.
    """
    received: list[int] = []
    times: dict[int, float] = {}

    def handle(signum, frame):
        del frame
        now = time.monotonic()
        if now - times.setdefault(signum, now) > SECOND_SIGNAL_SECONDS:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        received.append(signum)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
