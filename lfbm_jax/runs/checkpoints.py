"""Checkpoints with Orbax: whole or absent, verified when read, the newest good one wins."""

import errno
import logging
import pathlib
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError
from lfbm_jax.learning import TrainState

KEEP = 3


class Checkpoints:
    """The checkpoints of one work directory, `checkpoints/<step>/`.

    A checkpoint appears under its step only when it is complete. Beside the arrays it holds a
    checksum of them, so that a damaged file is noticed even where it still decodes. Persistent
    chains, of which only training has a use, are an item of their own. Of several processes, whose
    states are the same, the first one writes and reads; all call every method.

    Args:
        workdir: the work directory.
        read_only: for a run that may still be in training: nothing is made, not even an empty
            folder, and a checkpoint that is being written stays.

    Raises:
        UserError: there is no run to read.
    """

    def __init__(self, workdir: pathlib.Path, read_only: bool = False):
        self._directory = workdir.absolute() / "checkpoints"
        # Orbax announces every save on absl's log; our own progress line is enough.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = distributed.everywhere(
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
        return ocp.CheckpointManager(self._directory, options=options)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first; only the first process knows them."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint for `state.step`; does nothing where there is one already.

        It is complete when this returns, in whichever process.

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
            checksums = {name: _checksum(item) for name, item in items.items()}
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(item) for name, item in items.items()},
                    checksum=ocp.args.JsonSave(checksums),
                ),
            )
        except Exception as error:
            reason = _disk_problem(error)
            if reason is None:
                raise
            raise UserError(
                f"cannot write a checkpoint to {self._directory}: {reason}; free some space or"
                " choose another --workdir, then run the same command to go on"
            ) from error

    def restore(self, template: TrainState, step: int | None = None) -> TrainState | None:
        """The state of a step, or of the newest checkpoint that can be read.

        Args:
            template: a state of the right structure and shapes; its values are not used. Without
                chains in it, those of the checkpoint are not read.
            step: which one; None for the newest. A damaged newest one is passed over with a
                warning, a damaged chosen one is an error.

        Returns:
            The state in host memory, or None where there is no checkpoint at all.

        Raises:
            UserError: no such step, other shapes than the template's, or nothing readable.
        """
        return distributed.from_first(lambda: self._restore(template, step), template)

    def _restore(self, template: TrainState, step: int | None) -> TrainState | None:
        if step is not None and step not in self.steps():
            listed = ", ".join(map(str, self.steps())) or "none"
            raise UserError(
                f"--step={step}: no such checkpoint in {self._directory}; there are: {listed}"
            )
        candidates = [step] if step is not None else self.steps()[::-1]
        for candidate in candidates:
            self._check_shapes(candidate, template)
            try:
                return self._read(candidate, template)
            except Exception as error:  # Whatever a damaged file makes the reader raise.
                problem = f"checkpoint {candidate} is damaged ({_first_line(error)})"
                if step is not None:
                    raise UserError(f"{problem}; choose another --step") from error
                print(f"warning: {problem}; trying the one before", flush=True)
        if candidates:
            raise UserError(
                f"none of the checkpoints in {self._directory} can be read;"
                " remove that folder to start anew"
            )
        return None

    def delete_after(self, step: int) -> None:
        """Removes checkpoints later than `step`, which training is about to write again."""
        for later in [s for s in self.steps() if s > step]:
            self._manager.delete(later)

    def close(self) -> None:
        if self._manager:
            self._manager.close()

    def _read(self, step: int, template: TrainState) -> TrainState:
        items = _items(template)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardRestore(_as_numpy(item)) for name, item in items.items()},
                checksum=ocp.args.JsonRestore(),
            ),
        )
        for name in items:
            if _checksum(restored[name]) != restored.checksum[name]:
                raise ValueError("its checksum does not match its contents")
        chains = restored["chains"]["z"] if "chains" in items else ()
        return restored["state"]._replace(chains=chains)

    def _check_shapes(self, step: int, template: TrainState) -> None:
        """UserError where a readable checkpoint holds arrays of other names or shapes."""
        items = _items(template)
        try:
            metadata = self._manager.item_metadata(step)
            saved = {name: metadata[name].tree for name in items}
        except Exception:  # Damaged: reading it will say so.
            return
        found, wanted = _shapes(saved["state"]), _shapes(items["state"])
        if found != wanted:
            name = min(set(found.items()) ^ set(wanted.items()))[0]
            raise UserError(
                f"checkpoint {step} in {self._directory} has another shape: {name} is"
                f" {found.get(name, 'absent')} there, {wanted.get(name, 'absent')} in this"
                " config; use the config it was made with or another --workdir"
            )
        if "chains" in items:
            found, wanted = (tree["chains"]["z"].shape[0] for tree in (saved, items))
            if found != wanted:
                raise UserError(
                    f"checkpoint {step} in {self._directory} has persistent chains of {found}"
                    f" training images, but the data has {wanted}; use the data it was made with"
                    " or another --workdir"
                )


def _items(state: TrainState) -> dict:
    """What a checkpoint keeps apart: the state without its chains and, if there are any, these."""
    items = {"state": state._replace(chains=())}
    return items if isinstance(state.chains, tuple) else items | {"chains": {"z": state.chains}}


def _as_numpy(tree):
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


def _shapes(tree) -> dict[str, tuple]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): tuple(leaf.shape) for path, leaf in paths}


def _name(path) -> str:
    """A dotted name, the same for the tree saved and for the one that Orbax describes."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _checksum(tree) -> int:
    value = 0
    for leaf in jax.tree.leaves(tree):
        value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
    return value


def _check_finite(state: TrainState) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if not np.all(np.isfinite(leaf)):
            raise FloatingPointError(
                f"step {int(state.step)}: {_name(path)} is not finite"
            )


def _disk_problem(error: BaseException) -> str | None:
    """What the operating system or the array library says about the disk, if it is that."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "") + " " + error.strerror
    for sign in ("No space left", "RESOURCE_EXHAUSTED", "Disk quota exceeded", "Read-only file"):
        if sign in str(error):
            return sign
    return None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
