"""Guards of the project itself: what is shipped, what the documents promise, what starts light."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import potstill

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_pages() -> dict[str, str]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages}


def test_types_are_shipped() -> None:
    folder = Path(potstill.__file__).parent
    assert (folder / "py.typed").is_file()


def test_version_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{potstill.__version__}]" in changelog


def test_named_make_targets_exist() -> None:
    named = {
        (page, target)
        for page, text in read_pages().items()
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)
    }
    assert {target for _, target in named} >= {"demo", "test"}
    assert {(page, target) for page, target in named if target not in TARGETS} == set()


def test_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", pins, flags=re.MULTILINE)}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(name for extra in extras.values() for name in extra)]
    names = {re.split(r"[<>=!~;\[ ]", each)[0].lower() for each in wanted}
    assert names - pinned == {"potstill"}  # extras that hold another one


def test_every_room_has_a_docstring_that_says_what_it_is() -> None:
    rooms = sorted(Path(potstill.__file__).parent.glob("*/__init__.py"))
    silent = [room.parent.name for room in rooms if not room.read_text("utf-8").startswith('"""')]
    assert silent == []


def test_docstring_examples_have_the_plural_heading() -> None:
    # `Example:` is an admonition to the docs builder: the prompt signs become nested quotes
    sources = sorted(Path(potstill.__file__).parent.rglob("*.py"))
    singular = [
        f"{source.relative_to(ROOT)}:{number}"
        for source in sources
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1)
        if line.strip() == "Example:"
    ]
    assert singular == []


def test_commands_page_is_what_the_commands_say() -> None:
    script = load_script("docs_commands")
    cli = importlib.import_module("potstill.cli")
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.render_page(cli.app), "run python scripts/docs_commands.py"


def test_docs_list_every_command() -> None:
    script = load_script("docs_commands")
    cli = importlib.import_module("potstill.cli")
    page = script.PAGE.read_text(encoding="utf-8")
    absent = [name for name in script.command_names(cli.app)[1:] if f"## {name}\n" not in page]
    assert absent == []


def test_named_commands_exist() -> None:
    script = load_script("docs_commands")
    cli = importlib.import_module("potstill.cli")
    known = {name.split()[1] for name in script.command_names(cli.app)[1:]}
    named = {
        (page, word)
        for page, text in read_pages().items()
        for word in re.findall(r"(?:^\s*(?:\$ )?|`)potstill ([a-z]+)\b", text, flags=re.MULTILINE)
    }
    assert {(page, word) for page, word in named if word not in known} == set()


@pytest.mark.parametrize("module", ["potstill", "potstill.config", "potstill.serving"])
def test_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
