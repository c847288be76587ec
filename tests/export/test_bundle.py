"""A bundle reads as it was written, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import potstill
from potstill.core.errors import ArtefactError
from potstill.core.files import seal
from potstill.export import bundle
from potstill.export.bundle import BUNDLE_FILE, is_bundle, pack, read_bundle
from tests.bundles import ToyBundle


@pytest.fixture
def copy(toys: ToyBundle, tmp_path: Path) -> Path:
    """A bundle's folder to do harm to."""
    return Path(shutil.copytree(toys.done.folder, tmp_path / "copy"))


def change(folder: Path, **facts: object) -> None:
    """Other facts under an intact manifest: what somebody could build on purpose."""
    found = json.loads((folder / BUNDLE_FILE).read_text())
    (folder / BUNDLE_FILE).write_text(json.dumps(found | facts))
    (folder / "manifest.json").unlink()
    seal(folder, {})


def test_folder_and_zip_hold_the_same(toys: ToyBundle) -> None:
    folder = read_bundle(toys.done.folder)
    assert toys.done.packed is not None
    packed = read_bundle(toys.done.packed)
    assert folder == packed
    assert list(folder.heads) == list(toys.student.heads)
    assert folder.heads == dict(toys.student.heads)
    assert folder.engine == toys.done.engine
    assert [e["engine"] for e in folder.engines] == [c.engine for c in toys.done.candidates]


def test_is_bundle(toys: ToyBundle, tmp_path: Path) -> None:
    assert is_bundle(toys.done.folder)
    assert toys.done.packed is not None
    assert is_bundle(toys.done.packed)
    assert not is_bundle(toys.student.folder)
    assert not is_bundle(tmp_path / "nothing")


def test_what_was_a_bundle_is_told_as_one(copy: Path, tmp_path: Path) -> None:
    (copy / BUNDLE_FILE).unlink()
    with pytest.raises(ArtefactError, match=f"wanted: a folder with {BUNDLE_FILE}"):
        potstill.load(copy)
    (tmp_path / "half.zip").write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="not a zip file"):
        potstill.load(tmp_path / "half.zip")


@pytest.mark.parametrize("name", ["README.md", "manifest.json"])
def test_only_plain_files_are_read(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(ArtefactError, match="wanted: a plain file"):
        read_bundle(copy)


def test_packing_gives_the_same_bytes(toys: ToyBundle, tmp_path: Path) -> None:
    pack(toys.done.folder, tmp_path / "again.zip")
    assert toys.done.packed is not None
    assert (tmp_path / "again.zip").read_bytes() == toys.done.packed.read_bytes()


def test_only_the_chosen_graph_is_kept(toys: ToyBundle) -> None:
    names = {path.name for path in toys.done.folder.iterdir()}
    facts = json.loads((toys.done.folder / BUNDLE_FILE).read_text())
    assert names == {"README.md", BUNDLE_FILE, "manifest.json", "tokenizer.json", facts["graph"]}


@pytest.mark.parametrize("name", ["README.md", BUNDLE_FILE, "manifest.json", "tokenizer.json"])
def test_a_flipped_byte_is_found(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match=name):
        read_bundle(copy)


def test_a_flipped_byte_of_the_graph_is_found(copy: Path) -> None:
    graph = next(copy.glob("*.onnx"))
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="damaged file"):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", BUNDLE_FILE, "manifest.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtefactError, match="no bundle there" if name == BUNDLE_FILE else name):
        read_bundle(copy)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        read_bundle(tmp_path / "nothing")
    run = tmp_path / "run"
    (run / "student").mkdir(parents=True)
    (run / "student" / "student.json").write_text("{}")
    for folder in (run, run / "student"):
        with pytest.raises(ArtefactError, match="a student, not a bundle") as refused:
            read_bundle(folder)
        assert f"potstill export {folder} --out" in refused.value.todo
    (tmp_path / "text").write_text("text")
    with pytest.raises(ArtefactError, match="not a zip file"):
        read_bundle(tmp_path / "text")


def test_a_newer_format_is_refused(copy: Path) -> None:
    change(copy, version=2)
    with pytest.raises(ArtefactError, match="update potstill"):
        read_bundle(copy)


@pytest.mark.parametrize(
    "facts",
    [
        {"graph": "other.onnx"},
        {"graph": "../../secret"},
        {"tasks": 3},
        {"padding": "none"},
    ],
)
def test_facts_that_no_export_writes(copy: Path, facts: dict[str, object]) -> None:
    change(copy, **facts)
    with pytest.raises(ArtefactError, match="not what an export writes"):
        read_bundle(copy)


def test_a_kind_that_is_not_installed_here_is_named(copy: Path) -> None:
    head = {"space": {"kind": "ordinal"}, "columns": ["x"], "metric": "accuracy"}
    change(copy, tasks={"a": head})
    with pytest.raises(ArtefactError, match="unknown kind 'ordinal'") as caught:
        read_bundle(copy)
    assert "install" in caught.value.todo


def test_files_that_the_manifest_does_not_list_are_not_looked_at(copy: Path) -> None:
    (copy / "evil.onnx").write_bytes(b"x")
    found = json.loads((copy / BUNDLE_FILE).read_text())
    assert read_bundle(copy).graph
    for i in range(300):  # more files than a bundle may have, but not of it
        (copy / f"note{i}").write_text("mine")
    assert read_bundle(copy).graph
    (copy / BUNDLE_FILE).write_text(json.dumps(found | {"graph": "evil.onnx"}))
    with pytest.raises(ArtefactError, match=BUNDLE_FILE):
        read_bundle(copy)


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    """A zip entry."""
    found = zipfile.ZipInfo(name)
    found.external_attr = mode << 16
    return found


def twice(packed: zipfile.ZipFile) -> None:
    packed.writestr(entry("a"), b"1")
    with pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr(entry("a"), b"2")


def many(packed: zipfile.ZipFile) -> None:
    for i in range(300):
        packed.writestr(entry(f"f{i}"), b"")


HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "absolute": (lambda z: z.writestr(entry("/etc/passwd"), b"x"), "leads elsewhere"),
    "up": (lambda z: z.writestr(entry("../../x"), b"x"), "leads elsewhere"),
    "up inside": (lambda z: z.writestr(entry("a/../../x"), b"x"), "leads elsewhere"),
    "backslash": (lambda z: z.writestr(entry("..\\x"), b"x"), "leads elsewhere"),
    "drive": (lambda z: z.writestr(entry("C:x"), b"x"), "leads elsewhere"),
    "folder": (lambda z: z.writestr(entry("a/"), b""), "leads elsewhere"),
    "link": (lambda z: z.writestr(entry("a", stat.S_IFLNK | 0o777), b"/etc/passwd"), "link"),
    "twice": (twice, "twice"),
    "bomb": (
        lambda z: z.writestr(entry("a"), b"0" * 10_000_000, zipfile.ZIP_DEFLATED),
        "expands to 10,000,000 bytes",
    ),
    "many": (many, "more than 256 files"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_zip_is_refused(tmp_path: Path, name: str) -> None:
    build, says = HOSTILE[name]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        build(packed)
    with pytest.raises(ArtefactError, match=says):
        read_bundle(tmp_path / "x.zip")


def test_a_zip_whose_writer_notes_no_types_is_read(toys: ToyBundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "again.zip", "w") as again:
        for file in toys.done.folder.iterdir():
            again.writestr(file.name, file.read_bytes())
    assert read_bundle(tmp_path / "again.zip").digest == read_bundle(toys.done.folder).digest


def test_a_directory_that_lies_about_a_size_is_refused(toys: ToyBundle, tmp_path: Path) -> None:
    """A small size in the directory, a large stream behind it."""
    target = tmp_path / "x.zip"
    with zipfile.ZipFile(target, "w") as packed:
        packed.writestr(entry("a"), b"0" * 4096, zipfile.ZIP_DEFLATED)
    data = target.read_bytes()
    size = (4096).to_bytes(4, "little")
    target.write_bytes(data.replace(size, (16).to_bytes(4, "little")))
    with pytest.raises(ArtefactError):
        read_bundle(target)


def test_an_encrypted_entry_is_refused(toys: ToyBundle, tmp_path: Path) -> None:
    assert toys.done.packed is not None
    data = bytearray(toys.done.packed.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    (tmp_path / "x.zip").write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="encrypted"):
        read_bundle(tmp_path / "x.zip")


def test_a_folder_without_end_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    with pytest.raises(ArtefactError, match="more than"):
        read_bundle(copy)
