from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.config.faults import Place
from potstill.config.reading import Document, read_document, set_key
from potstill.core.errors import RunFileError


def read(tmp_path: Path, text: str | bytes) -> Document:
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def message(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(RunFileError) as caught:
        read(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12", 12),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("1e-05", 1e-5),
        (".5", 0.5),
        ("-.inf", -float("inf")),
        ("'12'", "12"),
        ('"a\\tb"', "a\tb"),
        ("2020-01-01", "2020-01-01"),
        ("!!str 12", "12"),
        ("!!float 3", 3.0),
        ("[1, a, {b: no}]", [1, "a", {"b": "no"}]),
        ("12:30", "12:30"),
    ],
)
def test_plain_values_of_yaml_1_2(tmp_path: Path, written: str, value: object) -> None:
    document = read(tmp_path, f"key: {written}\n")
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)
    assert not document.faults


def test_places_count_from_one(tmp_path: Path) -> None:
    document = read(tmp_path, "a: 1\nb:\n  - x\n  - c: [2, 3]\n")
    source = str(tmp_path / "run.yaml")
    assert document.keys["b",] == Place(source=source, line=2, column=1)
    assert document.values["b", 0] == Place(source=source, line=3, column=5)
    assert document.keys["b", 1, "c"] == Place(source=source, line=4, column=5)
    assert document.values["b", 1, "c", 1] == Place(source=source, line=4, column=12)
    assert document.place(("b", 1, "zz"), of_key=True) == Place(source=source, line=4, column=5)


def test_anchors_and_merged_mappings(tmp_path: Path) -> None:
    document = read(
        tmp_path, "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\nd: *a\n"
    )
    assert document.data["c"] == {"x": 5, "y": 2, "z": 4}
    assert document.data["d"] == {"x": 1, "y": 2}
    assert document.keys["c", "y"].line == 1


def test_bad_merge_and_bad_keys_are_faults(tmp_path: Path) -> None:
    faults = read(tmp_path, "a: {<<: 3}\n? [1, 2]\n: b\n").faults
    assert [fault.got for fault in faults] == [
        "'<<' with a plain value",
        "a list or mapping as a key",
    ]


def test_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\n").data == {"a": 1}


def test_duplicate_keys_name_both_lines(tmp_path: Path) -> None:
    (fault,) = read(tmp_path, "a: 1\nb: {c: 1, d: 2,\n c: 3}\n").faults
    assert fault.thing("run.yaml").endswith("line 3, column 2, key 'b.c'")
    assert "line 2" in fault.got


@pytest.mark.parametrize(
    "tag", ["!!python/object:os.system", "!!python/object/apply:os.system", "!mine", "!!binary"]
)
def test_tags_make_no_objects(tmp_path: Path, tag: str) -> None:
    (fault,) = read(tmp_path, f"a:\n  b: {tag} x\n").faults
    assert tag in fault.got
    assert fault.place is not None
    assert (fault.place.line, fault.path) == (2, ("a", "b"))
    (fault,) = read(tmp_path, f"a: {tag} [x]\n").faults
    assert tag in fault.got
    (fault,) = read(tmp_path, f"a: {tag} {{x: y}}\n").faults
    assert tag in fault.got


def test_a_tag_that_does_not_fit(tmp_path: Path) -> None:
    (fault,) = read(tmp_path, "a: !!int x\n").faults
    assert fault.got == "the text 'x' marked as !!int"


def test_yaml_1_1_booleans_stay_text_even_if_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, "%YAML 1.1\n---\na: no\n").data == {"a": "no"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["an empty file", "potstill init"]),
        ("# only a comment\n", ["an empty file"]),
        ("- a\n- b\n", ["a list", "mapping"]),
        ("just words\n", ["the text 'just words'"]),
        ("a: [1, 2\nb: 3\n", ["line 2, column", "not YAML"]),
        ("a: 'x\n", ["not YAML", "line"]),
        ("a: 1\n\tb: 2\n", ["line 2, column 1", "tab", "spaces"]),
        ("a:\n\tb: 2\n", ["line 2, column 1", "tab"]),
        ("a: *nobody\n", ["line 1, column 4", "nobody"]),
        ("a: 1\n---\nb: 2\n", ["line", "single document"]),
        ("a: b: c\n", ["line 1, column 5"]),
        (b"a: 1\nb: \xff\n", ["line 2, column 4", "0xff", "UTF-8"]),
        (b"a: \x01\n", ["not YAML"]),
        ("a: 1\n".encode("utf-16"), ["UTF-8"]),
        ("a: " + "[" * 800, ["not YAML"]),
        ("a: &a [*a]\n", ["aliases"]),
    ],
)
def test_what_is_no_run_file(tmp_path: Path, text: str | bytes, parts: list[str]) -> None:
    said = message(tmp_path, text)
    for part in ["run.yaml", *parts]:
        assert part in said, said


def test_a_billion_laughs_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "aliases" in message(tmp_path, "\n".join(lines))


def test_missing_file_lists_neighbours(tmp_path: Path) -> None:
    (tmp_path / "glue.yaml").write_text("a: 1")
    (tmp_path / "other.yml").write_text("a: 1")
    with pytest.raises(RunFileError, match=r"glue\.yaml, other\.yml; nearest: 'glue\.yaml'"):
        read_document(tmp_path / "gleu.yaml")
    with pytest.raises(RunFileError, match=r"glue\.yaml"):
        read_document(tmp_path / "no" / "such" / "glue.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFileError, match="potstill init"):
        read_document(tmp_path / "empty" / "run.yaml")


def test_a_folder_is_no_run_file(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="a folder") as caught:
        read_document(tmp_path)
    assert f"`potstill init {tmp_path}`" in str(caught.value)


def test_a_folder_with_a_run_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("tasks: {}")
    with pytest.raises(RunFileError, match="a folder") as caught:
        read_document(tmp_path)
    assert str(tmp_path / "run.yaml") in caught.value.todo
    assert "init" not in caught.value.todo


@pytest.mark.parametrize("name", ["my rows.csv", "rows.JSONL", "rows.parquet", "rows.tsv.gz"])
def test_data_is_no_run_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"text": "a", "label": 1}\n\xff')
    with pytest.raises(RunFileError, match="a file of data") as caught:
        read_document(tmp_path / name)
    assert f"`potstill init {shlex.quote(str(tmp_path / name))}`" in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("a=5", {"a": 5, "b": {"c": [1, {"d": 2}], "x.y": {"z": 1}}, "n": None}),
        ("b.c.1.d=no", {"a": 1, "b": {"c": [1, {"d": "no"}], "x.y": {"z": 1}}, "n": None}),
        ("b.x.y.z=[1, 2]", {"a": 1, "b": {"c": [1, {"d": 2}], "x.y": {"z": [1, 2]}}, "n": None}),
        ("b=", {"a": 1, "b": None, "n": None}),
        ("b=a=b", {"a": 1, "b": "a=b", "n": None}),
    ],
)  # fmt: skip
def test_set_key(tmp_path: Path, argument: str, wanted: object) -> None:
    document = read(tmp_path, "a: 1\nb: {c: [1, {d: 2}], x.y: {z: 1}}\nn:\n")
    set_key(document, argument)
    assert document.data == wanted
    path = ("b", "x.y", "z") if argument.startswith("b.x") else (argument[0],)
    if argument[1] == "=" or len(path) > 1:
        assert str(document.values[path]) == f"--set {argument}"
        assert str(document.keys[path]) == f"--set {argument}"


def test_set_key_makes_sections_on_the_way(tmp_path: Path) -> None:
    document = read(tmp_path, "n:\n")
    set_key(document, "n.m.k={t: 1.5}")
    set_key(document, "o.p=[]")
    assert document.data == {"n": {"m": {"k": {"t": 1.5}}}, "o": {"p": []}}


@pytest.mark.parametrize(
    "argument", ["a", "", "=3", "a..b=3", ".a=3", "a.b=3", "b.c.7=1", "b.c.d=1", "a=[1", "a=\t-"]
)
def test_set_key_refuses(tmp_path: Path, argument: str) -> None:
    document = read(tmp_path, "a: 1\nb: {c: [1]}\n")
    with pytest.raises(RunFileError) as caught:
        set_key(document, argument)
    assert f"--set {argument}" in str(caught.value)


def test_set_key_takes_away_the_fault_below(tmp_path: Path) -> None:
    document = read(tmp_path, "a: {b: !mine x}\n")
    set_key(document, "a={}")
    assert not document.faults


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(raw)
    try:
        assert isinstance(read_document(path).data, dict)
    except RunFileError as error:
        assert "any.yaml" in str(error)  # noqa: PT017


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@`# \n\tab1.<", max_size=40))
def test_any_yaml_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        assert isinstance(read_document(path).data, dict)
    except RunFileError as error:
        assert "any.yaml" in str(error)  # noqa: PT017
