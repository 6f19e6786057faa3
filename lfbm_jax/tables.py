"""Writes the paper's Tables 2 to 6, 11 and 13 from runs, with the paper's numbers beside ours.

    python -m lfbm_jax.tables runs --out=tables.md

The arguments are work directories, or folders that hold some at any depth. See
`lfbm_jax.runs.tables`.
"""

import pathlib

import jax
from absl import flags

from lfbm_jax.errors import UserError
from lfbm_jax.runs import cli, tables

# allow_override: another command has a flag of this name, and a process may import both.
_OUT = flags.DEFINE_string("out", "tables.md", "the file to write", allow_override=True)


def main(*folders: str) -> None:
    jax.config.update("jax_platforms", "cpu")  # A run may be using the accelerators.
    if not folders:
        raise UserError("no runs given: name work directories, or folders that hold some")
    path = tables.write(map(pathlib.Path, folders), pathlib.Path(_OUT.value))
    print(f"{path.read_text(encoding='utf-8')}\ndone; look at\n  {path}", flush=True)


if __name__ == "__main__":
    cli.run(main, arguments=None)
