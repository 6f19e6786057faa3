"""Writes lfbm_jax/API.md from docstrings: `python -m tests.api_page`."""

import ast
import inspect
import re
from collections.abc import Iterator

from tests.builders import ROOT

PAGE = ROOT / "lfbm_jax" / "API.md"
# Functions by the name that users call, and classes, with the module that defines each.
FUNCTIONS = {
    "get_config": "runs/config_files.py",
    "train": "runs/from_python.py",
    "load": "runs/load.py",
}
CLASSES = {
    "TrainedModel": "trained/api.py",
    "Samples": "trained/programs.py",
    "Inferred": "trained/programs.py",
    "UserError": "errors.py",
}
HEAD = """# The Python interface

Made from the docstrings by `python -m tests.api_page`; a test compares the two. `import lfbm_jax`
gives the three functions; `UserError` is in `lfbm_jax.errors`.
"""
SECTION = re.compile(r"(Args|Returns|Raises|Attributes):")


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for name, module in FUNCTIONS.items():
        node = definition(module, name)
        parts += [f"## lfbm_jax.{name}\n", signature(node, f"lfbm_jax.{name}"), prose(node)]
    for name, module in CLASSES.items():
        node = definition(module, name)
        parts += [f"## {name}\n", prose(node)]
        for member in public_members(node):
            if is_property(member):
                line = f"{member.name}{returned(member)}"
                parts += [f"### {name}.{member.name}\n", f"```python\n{line}\n```\n"]
            else:
                parts += [f"### {name}.{member.name}\n", signature(member, member.name)]
            parts += [prose(member)]
    return "\n".join(parts).rstrip() + "\n"


def definition(module: str, name: str) -> ast.FunctionDef | ast.ClassDef:
    tree = ast.parse((ROOT / "lfbm_jax" / module).read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if getattr(node, "name", None) == name)
    return found


def public_members(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Methods and properties without an underscore, in the order of the source."""
    return [
        inner
        for inner in node.body
        if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_")
    ]


def is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def signature(node: ast.FunctionDef, name: str) -> str:
    """A call with types and defaults, one argument a line where one line would be too long."""
    given = node.args.args
    defaults = [None] * (len(given) - len(node.args.defaults)) + node.args.defaults
    words = [
        f"{argument.arg}: {ast.unparse(argument.annotation)}"
        + (f" = {ast.unparse(default)}" if default else "")
        for argument, default in zip(given, defaults, strict=True)
        if argument.arg != "self"
    ]
    line = f"{name}({', '.join(words)}){returned(node)}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){returned(node)}"])
    return f"```python\n{line}\n```\n"


def returned(node: ast.FunctionDef) -> str:
    """The type of the result; one written as a text, because it is not defined yet, is unquoted."""
    return f" -> {ast.unparse(node.returns).strip(chr(39))}"


def prose(node: ast.FunctionDef | ast.ClassDef) -> str:
    """The docstring, whose sections become lists."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return "\n".join(markdown(text.splitlines())).rstrip() + "\n"


def markdown(lines: list[str]) -> Iterator[str]:
    section = None
    for line in lines:
        heading = SECTION.fullmatch(line)
        entry = re.fullmatch(r"    ([\w*, ]+): (.*)", line)
        if heading:
            section = heading[1]
            yield f"{section}:\n"
        elif section in ("Args", "Raises", "Attributes") and entry:
            names = ", ".join(f"`{name}`" for name in entry[1].split(", "))
            yield f"- {names}: {entry[2]}"
        elif section == "Returns":
            yield line.removeprefix("    ")
        elif section:
            yield f"  {line.strip()}" if line else ""
        else:
            yield line


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
