"""Write docs/commands.md from the commands themselves, or check that it is up to date.

    python scripts/docs_commands.py            writes the page
    python scripts/docs_commands.py --check    ends with 1 where the page and the commands differ

It reads names, arguments, options and help texts; it knows nothing of what the commands do. The
page is built from those texts and not from the terminal's rendering of ``--help``, so it does not
change with the width of a window or the version of a drawing library.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

import typer

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """\
# Commands

<!-- Written by scripts/docs_commands.py from the commands' own help: do not edit. -->
"""


# typer keeps its own copy of click under a private name, so the parts that are read here are
# named as protocols instead of imported.
class _Parameter(Protocol):
    name: str | None
    opts: list[str]
    secondary_opts: list[str]
    param_type_name: str
    required: bool
    nargs: int
    default: object
    hidden: bool
    help: str | None
    metavar: str | None
    is_flag: bool

    def display_type(self, ctx: object) -> str:
        """The value's type, ``<path>`` or ``<a|b>``."""


class _Command(Protocol):
    help: str | None
    hidden: bool
    params: list[_Parameter]
    context_class: Callable[[_Command], object]


def render_page(app: typer.Typer, *, program: str = "potstill") -> str:
    """The page's text: one section per command, in the order of ``--help``.

    Args:
        app: The command line.
        program: The name that users type.

    Returns:
        Markdown that ends with a newline.
    """
    parts = [HEAD]
    for name, command in _walk(cast(_Command, typer.main.get_command(app)), program):
        level = "##" if " " in name else ""
        if level:
            parts.append(f"{level} {name}\n")
        parts.append(f"```\n{_usage(name, command)}\n```\n")
        text = inspect.cleandoc(command.help or "").split("\f", 1)[0].strip()
        if text:
            parts.append(text + "\n")
        parts.extend(_tables(command))
    return "\n".join(parts)


def command_names(app: typer.Typer, *, program: str = "potstill") -> list[str]:
    """Every command in full, the program itself first: ``potstill``, ``potstill run`` and so on."""
    return [name for name, _ in _walk(cast(_Command, typer.main.get_command(app)), program)]


def _walk(command: _Command, name: str) -> Iterator[tuple[str, _Command]]:
    yield name, command
    below = cast("dict[str, _Command]", getattr(command, "commands", {}))
    for each, child in below.items():
        if not child.hidden:
            yield from _walk(child, f"{name} {each}")


def _shown(command: _Command, sort: str) -> list[_Parameter]:
    return [
        each
        for each in command.params
        if each.param_type_name == sort
        and not getattr(each, "hidden", False)
        and each.name not in {"install_completion", "show_completion"}
    ]


def _usage(name: str, command: _Command) -> str:
    pieces = [name]
    if _shown(command, "option"):
        pieces.append("[OPTIONS]")
    for each in _shown(command, "argument"):
        word = _argument_name(each)
        pieces.append(word if each.required else f"[{word}]")
    if hasattr(command, "commands"):
        pieces.append("COMMAND [ARGS]...")
    return " ".join(pieces)


def _argument_name(argument: _Parameter) -> str:
    word = argument.metavar or (argument.name or "").upper()
    return word if argument.nargs == 1 or word.endswith("...") else word + "..."


def _tables(command: _Command) -> Iterator[str]:
    arguments = _shown(command, "argument")
    if arguments:
        rows = [f"| `{_argument_name(a)}` | {_cell(a.help)} |" for a in arguments]
        yield "\n".join(["| argument | meaning |", "|---|---|", *rows]) + "\n"
    options = _shown(command, "option")
    if options:
        context = command.context_class(command)
        rows = [f"| {_option(o, context)} | {_cell(o.help)}{_default(o)} |" for o in options]
        yield "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def _option(option: _Parameter, context: object) -> str:
    words = ", ".join(f"`{each}`" for each in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return words
    return f"{words} `{_cell(option.metavar or option.display_type(context))}`"


def _default(option: _Parameter) -> str:
    if option.required:
        return " (required)"
    default = option.default
    # "no default" may be a sentinel of a private class; only plain values are shown
    plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    if not plain or default == "":
        return ""
    return f" (default: `{getattr(default, 'value', default)}`)"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> int:
    """Write or check the page; the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/commands.md from the commands.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check

    from potstill.cli import app  # noqa: PLC0415 - so that this file can be read without it

    wanted = render_page(app)
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if found == wanted:
        return 0
    diff = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/commands.md", "the commands", lineterm=""
    )
    print("\n".join(diff))
    print("docs/commands.md is not what the commands say: run python scripts/docs_commands.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
