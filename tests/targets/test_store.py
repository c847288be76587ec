"""The store of soft targets: found by id, whole or not there, and of nothing else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.core import files
from potstill.core.errors import ArtefactError, DataError, MismatchError, ResourceError
from potstill.kinds import Classification, Kind, Multilabel, Ranking, Regression, Span, Tagging
from potstill.targets import store
from potstill.targets.store import SoftTargets, StoreFacts, merge, read_store, write_store
from potstill.tasks.rowids import row_ids
from tests.tiny import flip_byte

CLASSES = Classification(classes=("a", "b", "c"))
KINDS: list[Kind] = [
    CLASSES,
    Regression(low=0.0, high=5.0, mean=0.6, spread=0.25),
    Ranking(highest=2.0),
    Multilabel(classes=("a", "b")),
]
TAGS = Tagging(tags=("O", "B-x", "I-x"))
SLOTTED: list[Kind] = [TAGS, Span(unanswerable=True)]
GOLDEN = Path(__file__).parents[1] / "golden" / "soft-targets-v1"


def facts_of(kind: Kind, n_members: int = 2) -> StoreFacts:
    return StoreFacts(
        task="t",
        kind=kind.to_json(),
        data="the rows",
        teachers=tuple(f"teacher {k}" for k in range(n_members)),
    )


def ids_of(n: int, start: int = 0) -> np.ndarray:
    return row_ids([[f"row {i}" for i in range(start, start + n)]])


def outputs_of(kind: Kind, n: int, n_members: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (n_members, n, kind.n_outputs)).astype(np.float32)


def written(folder: Path, kind: Kind = CLASSES, n: int = 9) -> np.ndarray:
    outputs = outputs_of(kind, n)
    write_store(folder, facts_of(kind), kind, ids_of(n), list(outputs))
    return outputs


@pytest.fixture(autouse=True)
def _no_hook_stays() -> Iterator[None]:
    yield
    files.fault_hook = None


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows a shard."""
    monkeypatch.setattr(store, "_SHARD_ROWS", 4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.usefixtures("small_shards")
def test_round_trip_in_any_order(tmp_path: Path, kind: Kind) -> None:
    outputs = written(tmp_path / "s", kind)
    assert len(list((tmp_path / "s").glob("shard-*"))) == 3
    opened = read_store(tmp_path / "s", facts_of(kind), kind)
    order = np.random.default_rng(1).permutation(9)
    members, cover = opened.find(ids_of(9)[order])
    assert cover.all()
    assert members.dtype == np.float32
    if kind.name == "ranking":
        np.testing.assert_array_equal(members, outputs[:, order])
    elif kind.name == "regression":
        np.testing.assert_allclose(members, outputs[:, order], rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_allclose(members, outputs[:, order], rtol=2**-11, atol=1e-6)


def test_unknown_rows_are_not_covered(tmp_path: Path) -> None:
    written(tmp_path / "s")
    opened = read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
    wanted = np.concatenate([ids_of(3, 100), ids_of(2, 4), ids_of(1, 4)])
    members, cover = opened.find(wanted)
    assert cover.tolist() == [[False] * 3 + [True] * 3] * 2
    assert not members[:, :3].any()
    np.testing.assert_array_equal(members[:, 3], members[:, 5])


def test_partial_cover_and_equal_ids(tmp_path: Path) -> None:
    ids = np.concatenate([ids_of(3), ids_of(2)])  # two rows twice
    outputs = outputs_of(CLASSES, 5)
    cover = [np.array([False, False, True, True, False]), np.ones(5, bool)]
    write_store(tmp_path / "s", facts_of(CLASSES), CLASSES, ids, list(outputs), cover)
    opened = read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
    assert len(opened.ids) == 3
    members, found = opened.find(ids_of(3))
    assert found.tolist() == [[True, False, True], [True, True, True]]
    kept = outputs[:, [3, 1, 2]]  # the first of each that most members cover
    np.testing.assert_allclose(members, kept, rtol=1e-3, atol=1e-3)
    manifest = files.verify(tmp_path / "s")
    assert manifest["rows"] == 3
    assert manifest["covered"] == [2, 3]
    assert manifest["space"] == "logits"


def test_no_rows(tmp_path: Path) -> None:
    write_store(tmp_path / "s", facts_of(CLASSES), CLASSES, ids_of(0), list(outputs_of(CLASSES, 0)))
    opened = read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
    members, cover = opened.find(ids_of(2))
    assert members.shape == (2, 2, 3)
    assert not cover.any()


@pytest.mark.parametrize(("value", "says"), [(np.nan, "nan"), (70_000.0, "70000")])
def test_outputs_that_are_no_numbers_or_too_large(tmp_path: Path, value: float, says: str) -> None:
    outputs = outputs_of(CLASSES, 2)
    outputs[1, 0, 0] = value
    with pytest.raises(DataError, match=rf"outputs of teacher 2(.|\n)*got:\s+{says}"):
        write_store(tmp_path / "s", facts_of(CLASSES), CLASSES, ids_of(2), list(outputs))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data": "other rows"}, "other rows: data = the rows"),
        ({"teachers": ("teacher 1", "teacher 0")}, "other teachers"),
        ({"teachers": ("teacher 0",)}, "other teachers"),
        ({"task": "u"}, "another task: task = t"),
        ({"kind": Classification(classes=("b", "a", "c")).to_json()}, "label order"),
        ({"kind": Ranking(highest=2.0).to_json()}, "another kind"),
    ],
)
def test_a_store_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    written(tmp_path / "s")
    with pytest.raises(MismatchError) as refused:
        read_store(tmp_path / "s", replace(facts_of(CLASSES), **change), CLASSES)
    assert what in str(refused.value)
    assert str(tmp_path / "s") in str(refused.value)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "STORE_VERSION", 2)
        written(tmp_path / "s")
    with pytest.raises(MismatchError, match="another version: version = 2"):
        read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)


@pytest.mark.usefixtures("small_shards")
def test_a_flipped_byte_is_named_and_refused(tmp_path: Path) -> None:
    written(tmp_path / "s")
    for path in sorted((tmp_path / "s").iterdir()):
        sound = path.read_bytes()
        for place in range(0, len(sound), max(1, len(sound) // 40)):
            flip_byte(path, place)
            with pytest.raises(ArtefactError) as refused:
                read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
            assert str(path) in str(refused.value)
        path.write_bytes(sound[:-1])
        with pytest.raises(ArtefactError, match=path.name):
            read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
        path.unlink()
        with pytest.raises(ArtefactError, match=path.name):
            read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)
        path.write_bytes(sound)
    read_store(tmp_path / "s", facts_of(CLASSES), CLASSES)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "full")], ids=["kill", "full"])
def test_broken_off_in_any_write_nothing_can_be_read(tmp_path: Path, error: BaseException) -> None:
    names: list[str] = []
    files.fault_hook = lambda path, done: names.append(path.name)
    written(tmp_path / "counted")
    assert names[-1] == "manifest.json"
    for number in range(len(names)):
        left = [number]

        def hook(path: Path, done: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise error

        files.fault_hook = hook
        folder = tmp_path / f"broken-{number}"
        with pytest.raises((Killed, ResourceError)):
            written(folder)
        files.fault_hook = None
        assert not folder.exists()
        with pytest.raises(ArtefactError):
            read_store(folder, facts_of(CLASSES), CLASSES)
        outputs = written(folder)  # the next attempt is not troubled by the rest of this one
        members, _ = read_store(folder, facts_of(CLASSES), CLASSES).find(ids_of(9))
        np.testing.assert_allclose(members, outputs, rtol=1e-3, atol=1e-3)


def test_merging_members(tmp_path: Path) -> None:
    outputs = outputs_of(CLASSES, 6, 3)
    order = np.random.default_rng(2).permutation(6)
    ids = ids_of(6)
    first = SoftTargets(ids=ids, members=outputs[:2], cover=np.ones((2, 6), bool))
    second = SoftTargets(
        ids=ids[order][:4], members=outputs[2:, order[:4]], cover=np.ones((1, 4), bool)
    )
    merged = merge([first, second])
    members, cover = merged.find(ids)
    np.testing.assert_array_equal(members[:2], outputs[:2])
    known = np.isin(np.arange(6), order[:4])
    assert cover.tolist() == [[True] * 6, [True] * 6, known.tolist()]
    np.testing.assert_array_equal(members[2, known], outputs[2, known])
    assert not members[2, ~known].any()


# -- several slots a row ------------------------------------------------------------------------

SIZES = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5])


def written_slots(folder: Path, kind: Kind = TAGS) -> list[np.ndarray]:
    """Nine rows of these sizes; returns each row's outputs (M, slots, C)."""
    outputs = outputs_of(kind, int(SIZES.sum()))
    write_store(folder, facts_of(kind), kind, ids_of(9), list(outputs), slots=SIZES)
    return np.split(outputs, np.cumsum(SIZES)[:-1], axis=1)


@pytest.mark.parametrize("kind", SLOTTED, ids=lambda kind: kind.name)
@pytest.mark.usefixtures("small_shards")
def test_slots_round_trip_in_any_order(tmp_path: Path, kind: Kind) -> None:
    by_row = written_slots(tmp_path / "s", kind)
    assert len(list((tmp_path / "s").glob("shard-*"))) == 3
    opened = read_store(tmp_path / "s", facts_of(kind), kind)
    assert opened.slots is not None
    assert opened.slots.tolist() == SIZES.tolist()
    for seed in range(3):
        order = np.random.default_rng(seed).integers(0, 9, 12)  # some of them twice
        members, cover = opened.find(ids_of(9)[order], SIZES[order])
        assert cover.all()
        assert cover.shape == (2, 12)
        wanted = np.concatenate([by_row[row] for row in order], axis=1)
        rtol = 1e-6 if kind.storage == "float32" else 2**-11
        np.testing.assert_allclose(members, wanted, rtol=rtol, atol=1e-6)


def test_slots_of_unknown_rows_are_not_covered(tmp_path: Path) -> None:
    by_row = written_slots(tmp_path / "s")
    opened = read_store(tmp_path / "s", facts_of(TAGS), TAGS)
    wanted = np.concatenate([ids_of(2, 100), ids_of(1, 2), ids_of(1, 200), ids_of(1, 5)])
    members, cover = opened.find(wanted, np.array([7, 1, 4, 3, 9]))
    assert cover.tolist() == [[False, False, True, False, True]] * 2
    assert members.shape == (2, 24, 3)
    parts = np.split(members, [7, 8, 12, 15], axis=1)
    for known, row in ((2, 2), (4, 5)):
        np.testing.assert_allclose(parts[known], by_row[row], rtol=1e-3, atol=1e-3)
    for unknown in (0, 1, 3):
        assert not parts[unknown].any()


def test_rows_with_other_slots_are_refused(tmp_path: Path) -> None:
    written_slots(tmp_path / "s")
    opened = read_store(tmp_path / "s", facts_of(TAGS), TAGS)
    with pytest.raises(ValueError, match="another number of slots"):
        opened.find(ids_of(2), np.array([3, 2]))
    with pytest.raises(ValueError, match="another number of slots"):
        opened.find(ids_of(2))
    opened.find(np.concatenate([ids_of(2), ids_of(1, 50)]), np.array([3, 1, 8]))


@pytest.mark.usefixtures("small_shards")
def test_equal_ids_with_slots_are_stored_as_the_row_that_most_members_cover(tmp_path: Path) -> None:
    rows = [0, 1, 2, 0, 1]
    ids, slots = ids_of(9)[rows], SIZES[rows]
    outputs = outputs_of(TAGS, int(slots.sum()))
    cover = [np.array([False, False, True, True, False]), np.array([True] * 5)]
    write_store(tmp_path / "s", facts_of(TAGS), TAGS, ids, list(outputs), cover, slots)
    opened = read_store(tmp_path / "s", facts_of(TAGS), TAGS)
    assert len(opened.ids) == 3
    members, found = opened.find(ids_of(3), SIZES[:3])
    assert found.tolist() == [[True, False, True], [True, True, True]]
    by_row = np.split(outputs, np.cumsum(slots)[:-1], axis=1)
    wanted = np.concatenate([by_row[3], by_row[1], by_row[2]], axis=1)
    np.testing.assert_allclose(members, wanted, rtol=1e-3, atol=1e-3)


def test_no_rows_with_slots(tmp_path: Path) -> None:
    nothing = list(outputs_of(TAGS, 0))
    write_store(
        tmp_path / "s", facts_of(TAGS), TAGS, ids_of(0), nothing, slots=np.zeros(0, np.int64)
    )
    opened = read_store(tmp_path / "s", facts_of(TAGS), TAGS)
    members, cover = opened.find(ids_of(2), np.array([2, 3]))
    assert members.shape == (2, 5, 3)
    assert not cover.any()


def test_merging_members_of_rows_with_slots(tmp_path: Path) -> None:
    outputs = outputs_of(TAGS, int(SIZES.sum()), 3)
    by_row = np.split(outputs, np.cumsum(SIZES)[:-1], axis=1)
    order = np.random.default_rng(2).permutation(9)[:5]
    first = SoftTargets(
        ids=ids_of(9), members=outputs[:2], cover=np.ones((2, 9), bool), slots=SIZES
    )
    second = SoftTargets(
        ids=ids_of(9)[order],
        members=np.concatenate([by_row[row][2:] for row in order], axis=1),
        cover=np.ones((1, 5), bool),
        slots=SIZES[order],
    )
    merged = merge([first, second])
    assert merged.slots is not None
    members, cover = merged.find(ids_of(9), SIZES)
    np.testing.assert_array_equal(members[:2], outputs[:2])
    known = np.isin(np.arange(9), order)
    assert cover.tolist() == [[True] * 9, [True] * 9, known.tolist()]
    by_slot = np.repeat(known, SIZES)
    np.testing.assert_array_equal(members[2, by_slot], outputs[2, by_slot])
    assert not members[2, ~by_slot].any()


def test_golden_store_of_version_1() -> None:
    """A promise: what this version wrote stays readable. The folder was written once."""
    opened = read_store(GOLDEN, facts_of(CLASSES), CLASSES)
    members, cover = opened.find(ids_of(3))
    np.testing.assert_array_equal(
        members,
        np.array([[[1, -2, 0.5], [0, 0, 4], [0, 0, 0]], [[0.25, 3, -1], [8, 1, 1], [2, 2, -2]]]),
    )
    assert cover.tolist() == [[True, True, False], [True, True, True]]
