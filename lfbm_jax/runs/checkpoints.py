"""Saves and restores checkpoints with Orbax; each is complete or absent, and verified when read."""

import errno
import logging
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.learning import TrainState

KEEP = 3
SET_ASIDE = "set_aside"  # folder of a work directory for checkpoints that it does not read

# The exceptions that reading a truncated or overwritten file, or a missing one, raises.
DAMAGE = (ValueError, KeyError, TypeError, AssertionError)
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# Status words of the array library that blame the machine rather than a file's content.
PASSING = (
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNKNOWN",
)


class Checkpoints:
    """The checkpoints of one work directory, `checkpoints/<step>/`.

    A checkpoint appears under its step only when it is complete. It holds a checksum of its arrays,
    so that damage is noticed even if the file still decodes. Persistent chains, which only training
    uses, are an item of their own. If several processes train one model, all call every method, but
    only the first one writes and reads, because all hold the same state.

    Args:
        workdir: the work directory.
        read_only: for a run that may still be training. Nothing is created, not even an empty
            folder, and a half-written checkpoint stays.

    Raises:
        UserError: there is no run to read.
    """

    def __init__(self, workdir: pathlib.Path, read_only: bool = False):
        self._directory = workdir.absolute() / "checkpoints"
        # Orbax logs every save through absl; our own progress line is enough.
        logging.getLogger("absl").setLevel(logging.ERROR)
        # None except in the first process, which alone uses it.
        self._manager: Any = distributed.everywhere(
            lambda: self._open(read_only) if distributed.is_first() else None
        )

    def _open(self, read_only: bool) -> ocp.CheckpointManager:
        if not read_only:
            self._directory.mkdir(parents=True, exist_ok=True)
        elif not self._directory.is_dir():
            raise UserError(
                f"--workdir={self._directory.parent}: no checkpoints there; train first"
                " (--mode=train)"
            )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else KEEP,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}
            ),
        )
        processes = options.multiprocessing_options
        # Without handlers Orbax describes no items to a process that has not saved any.
        handlers = {
            "state": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
            "chains": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
            "checksum": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
        }
        return ocp.CheckpointManager(self._directory, item_handlers=handlers, options=options)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first; empty except in the first process."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint for `state.step`, unless there is one already.

        When this returns, in any process, the checkpoint is complete.

        Raises:
            UserError: the disk is full or not writable; earlier checkpoints stay.
            FloatingPointError: the state holds a value that is not finite; nothing is written.
        """
        distributed.everywhere(lambda: self._save(state) if distributed.is_first() else None)

    def _save(self, state: TrainState) -> None:
        host_state = jax.device_get(state)
        step = int(host_state.step)
        _check_finite(host_state)
        if step in self._manager.all_steps():
            return
        try:
            items = _items(host_state)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(item) for name, item in items.items()},
                    checksum=ocp.args.JsonSave(_checksums(items)),
                ),
            )
        except Exception as error:
            reason = _disk_problem(error)
            if reason is None:
                raise
            raise UserError(
                f"cannot write a checkpoint to {self._directory}: {reason}; free some space or"
                " choose another --workdir, then run the same command to resume"
            ) from error

    def restore(self, template: TrainState, step: int | None = None) -> TrainState | None:
        """Reads the checkpoint of a step, or the newest one that can be read.

        Args:
            template: a state of the right structure and shapes, whose values are not used. If it
                has no chains, those of the checkpoint are not read.
            step: the step to read; None for the newest. A damaged checkpoint is skipped with a
                warning if no step was chosen, and is an error if one was.

        Returns:
            The state in host memory, or None if there is no checkpoint at all.

        Raises:
            UserError: there is no such step, the layout differs from the template's, no checkpoint
                can be read, or a temporary fault occurred (an input-output error, full memory). The
                latter is never treated as damage.
        """
        return distributed.from_first(lambda: self._restore(template, step), template)

    def _restore(self, template: TrainState, step: int | None) -> TrainState | None:
        if step is not None and step not in self.steps():
            listed = ", ".join(map(str, self.steps())) or "none"
            raise UserError(
                f"--step={step}: no such checkpoint in {self._directory}, which has {listed}"
            )
        candidates = [step] if step is not None else self.steps()[::-1]
        for candidate in candidates:
            try:
                return self._read(candidate, template)
            except Exception as error:
                if _may_pass(error):
                    raise UserError(
                        f"checkpoint {candidate} in {self._directory} cannot be read at present"
                        f" ({_first_line(error)}); nothing was changed; check the disk and the"
                        " memory, then run the same command again"
                    ) from error
                if not isinstance(error, (*DAMAGE, *MISSING)):
                    raise
                problem = f"checkpoint {candidate} is damaged ({_first_line(error)})"
                if step is not None:
                    raise UserError(f"{problem}; choose another --step") from error
                print(f"warning: {problem}; trying the previous one", flush=True)
        if candidates:
            raise UserError(
                f"none of the checkpoints in {self._directory} can be read;"
                " move this folder away to start again"
            )
        return None

    def replace(self, state: TrainState) -> None:
        """Writes another state for the step of a checkpoint, which moves to `<workdir>/set_aside`.

        If writing fails, the checkpoint is back in its place.

        Raises:
            UserError, FloatingPointError: see `save`.
        """
        distributed.everywhere(lambda: self._replace(state) if distributed.is_first() else None)

    def _replace(self, state: TrainState) -> None:
        step = int(state.step)
        kept = self._set_aside(step)
        self._manager.reload()
        try:
            self._save(state)
        except BaseException:
            kept.rename(self._directory / str(step))
            self._manager.reload()
            raise

    def set_aside_after(self, step: int) -> None:
        """Moves the checkpoints after `step` to `<workdir>/set_aside`.

        These are the ones that `restore` skipped. They are moved because training is about to write
        those steps again.
        """
        distributed.everywhere(lambda: self._set_aside_after(step))

    def _set_aside_after(self, step: int) -> None:
        later = [number for number in self.steps() if number > step]
        for number in later:
            print(f"checkpoint {number} is kept in {self._set_aside(number)}", flush=True)
        if later:
            self._manager.reload()

    def _set_aside(self, step: int) -> pathlib.Path:
        """Moves a checkpoint and returns its place; the manager has to reload afterwards."""
        place = self._directory.parent / SET_ASIDE / str(step)
        return atomic.set_aside(self._directory / str(step), place)

    def close(self) -> None:
        if self._manager:
            self._manager.close()

    def _read(self, step: int, template: TrainState) -> TrainState:
        """Reads the state of one step.

        Arrays are matched by name. A release whose TrainState gains a field can therefore read
        checkpoints of earlier releases, as long as that field is empty.
        """
        items = _items(template)
        saved = self._layout(step, items)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardRestore(_as_numpy(tree)) for name, tree in saved.items()},
                checksum=ocp.args.JsonRestore(),
            ),
        )
        filled = {name: _filled(item, restored[name]) for name, item in items.items()}
        if restored.checksum != restored.checksum | _checksums(filled):
            raise ValueError("its checksum does not match its contents")
        chains = filled["chains"]["z"] if "chains" in items else None
        return filled["state"]._replace(chains=chains)

    def _layout(self, step: int, items: dict) -> dict:
        """Returns Orbax's description of each item of a checkpoint, after comparing layouts.

        Raises:
            UserError: the arrays differ from those of `items` in name, shape or type.
        """
        metadata = self._manager.item_metadata(step)
        if "state" not in metadata or metadata["state"] is None:
            raise FileNotFoundError("it has no description of its arrays")
        where = f"checkpoint {step} in {self._directory}"
        found, wanted = _layout(metadata["state"].tree), _layout(items["state"])
        if found != wanted:
            name = min(set(found.items()) ^ set(wanted.items()))[0]
            raise UserError(
                f"{where} has another layout: {name} is {found.get(name, 'absent')} there,"
                f" {wanted.get(name, 'absent')} here; use the config and the release of lfbm_jax"
                " that made the checkpoint, or another --workdir"
            )
        if "chains" in items:
            if "chains" not in metadata:
                raise UserError(f"{where} has no persistent chains; use another --workdir")
            if metadata["chains"] is None:
                raise FileNotFoundError("it has no description of its chains")
            found, wanted = (
                tree["z"].shape[0] for tree in (metadata["chains"].tree, items["chains"])
            )
            if found != wanted:
                raise UserError(
                    f"{where} has persistent chains of {found} training images, but the data has"
                    f" {wanted}; use the data of the first run or another --workdir"
                )
        return {name: metadata[name].tree for name in items}


def _items(state: TrainState) -> dict:
    """Splits a state into a checkpoint's items: the state without chains, and its chains if any."""
    items = {"state": state._replace(chains=None)}
    return items if state.chains is None else items | {"chains": {"z": state.chains}}


def _as_numpy(tree):
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


def _layout(tree) -> dict[str, str]:
    """The type and shape of every array, by name."""
    return {name: f"{np.dtype(leaf.dtype)} {list(leaf.shape)}" for name, leaf in _named(tree)}


def _filled(template, tree):
    """The template with the arrays of another tree, matched by name."""
    leaves = dict(_named(tree))
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[_name(path)], template)


def _named(tree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield _name(path), leaf


def _name(path) -> str:
    """A dotted name, the same for a saved tree and for Orbax's description of it.

    Names from earlier versions are translated to today's. The order of the arrays, on which the
    checksums depend, is the same.
    """
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return re.sub(r"^moments\.(\w+)\.", r"opt_state.\1.adam.", name)


def _checksums(items: dict) -> dict[str, int]:
    """The checksum of every item, by name."""
    return {name: _checksum(item) for name, item in items.items()}


def _checksum(tree) -> int:
    value = 0
    for leaf in jax.tree.leaves(tree):
        value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
    return value


def _check_finite(state: TrainState) -> None:
    for name, leaf in _named(state):
        if not np.all(np.isfinite(leaf)):
            raise FloatingPointError(f"step {int(state.step)}: {name} is not finite")


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, blames the machine rather than a file's content."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and not isinstance(error, MISSING)
    ):
        return True
    status = re.match("[A-Z_]+(?=: )", str(error))
    passing = bool(status and status[0] in PASSING) or "[os_error_code=" in str(error)
    return passing or _may_pass(error.__cause__ or error.__context__)


def _disk_problem(error: BaseException) -> str | None:
    """What an error says about the disk; None if it says nothing about it."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{errno.errorcode.get(error.errno, '')} {error.strerror}"
    for sign in ("No space left", "RESOURCE_EXHAUSTED", "Disk quota exceeded", "Read-only file"):
        if sign in str(error):
            return sign
    return None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
