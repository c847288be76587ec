"""What teachers say and what they think of each piece: made once, found again, never mixed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.core.errors import ArtefactError, MismatchError, Stopped
from potstill.core.files import seal
from potstill.models.pieces import Decoding
from potstill.models.token_rows import TokenRows
from potstill.targets import texts as texts_module
from potstill.targets.texts import label_pieces, say
from potstill.tasks.task import Split, Task, folds, pair_ids
from potstill.teachers.member import Member
from potstill.training.network import save_network
from potstill.training.sequence_network import SequenceNetwork
from tests.sequences import pair_rows, sequence_base, sequence_network, sequence_task
from tests.tiny import CPU, flip_byte, stage_folder

TASK = sequence_task(train=24, dev=6, pool=[[{"en": row["en"]} for row in pair_rows(9, 7)]])
BEAMS = Decoding(beams=2, length_penalty=1.0)


def network_of(folder: Path, seed: int) -> SequenceNetwork:
    return sequence_network(sequence_base(folder / "base"), [TASK], seed=seed)


def member_of(folder: Path, seed: int = 0, **facts: Any) -> Member:
    place = folder / f"m{seed}"
    if not place.exists():
        save_network(network_of(folder, seed), place)
        seal(place, {})
    return Member(name=f"m{seed}", folder=place, digest=f"digest {seed}", **facts)


def said(
    root: Path, members: Sequence[Member], rows: Sequence[Split], task: Task = TASK, **keys: Any
) -> list[str | None]:
    facts = {"decoding": BEAMS, "device": CPU, "max_tokens": 32, "what": "w"} | keys
    stages = facts.pop("stages", None) or stage_folder(root)
    return say(stages, members, task, rows, **facts)[0]  # type: ignore[arg-type]


def plainly(networks: Sequence[SequenceNetwork], texts: Sequence[str]) -> list[str]:
    first, *others = networks
    tokens = first.tokenise(TASK.name, {"en": list(texts)})
    found = first.texts(tokens, CPU, decoding=BEAMS, partners=others)
    return [str(text) for text in found]


# -- texts --------------------------------------------------------------------------------------


def test_members_say_one_text_together(tmp_path: Path) -> None:
    assert TASK.pool is not None
    members = [member_of(tmp_path, k) for k in range(3)]
    networks = [network_of(tmp_path, k) for k in range(3)]
    rows = [TASK.train, TASK.pool]
    sources = [*TASK.train.inputs["en"], *TASK.pool.inputs["en"]]
    found = said(tmp_path, members, rows)
    assert found == plainly(networks, sources)
    assert said(tmp_path, members[:1], rows) == plainly(networks[:1], sources) != found


def test_a_text_comes_from_members_that_have_not_seen_the_row(tmp_path: Path) -> None:
    """In parts too, where some rows are of all members and others of the first one alone."""
    assert TASK.pool is not None
    members = [member_of(tmp_path, k, fold=k, n_folds=3) for k in range(3)]
    networks = [network_of(tmp_path, k) for k in range(3)]
    wanted = [
        plainly([networks[fold]], [text])[0]
        for fold, text in zip(folds(TASK, 3), TASK.train.inputs["en"], strict=True)
    ]
    wanted += plainly(networks, TASK.pool.inputs["en"])
    assert said(tmp_path / "whole", members, [TASK.train, TASK.pool]) == wanted


@pytest.mark.parametrize("part_rows", [3, 5, 10])
def test_parts_are_of_the_rows_and_members_that_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    assert TASK.pool is not None
    members = [member_of(tmp_path, k, fold=k, n_folds=3) for k in range(3)]
    wanted = said(tmp_path / "whole", members, [TASK.train, TASK.pool])
    monkeypatch.setattr(texts_module, "_PART_ROWS", part_rows)
    assert said(tmp_path / "parts", members, [TASK.train, TASK.pool]) == wanted
    assert not list((tmp_path / "parts").rglob("part-*"))


def test_rows_that_all_members_have_seen_have_no_text(tmp_path: Path) -> None:
    member = member_of(tmp_path, 0, fold=1, n_folds=2)
    found = said(tmp_path, [member], [TASK.train, TASK.dev])
    unseen = folds(TASK, 2) == 1
    assert [text is not None for text in found[: len(unseen)]] == unseen.tolist()
    assert all(text is not None for text in found[len(unseen) :])


def test_what_is_said_once_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = member_of(tmp_path)
    first = said(tmp_path, [member], [TASK.dev])

    def never(*args: object) -> None:
        raise AssertionError("said anew")

    monkeypatch.setattr(texts_module, "_say", never)
    assert said(tmp_path, [member], [TASK.dev]) == first
    renamed = replace(member, name="another name", dev=0.3)
    assert said(tmp_path, [renamed], [TASK.dev]) == first
    labels = TASK.dev.labels
    assert labels is not None
    relabelled = replace(TASK.dev, labels=labels[::-1])
    assert said(tmp_path, [member], [relabelled]) == first
    assert said(tmp_path, [member], [TASK.dev], max_tokens=99) == first  # networks know their own
    other = replace(TASK, kind=replace(TASK.kind, language="fr"))  # type: ignore[type-var]
    for members, rows, keys in (
        ([replace(member, digest="retrained")], [TASK.dev], {}),
        ([replace(member, fold=0, n_folds=2)], [TASK.dev], {}),
        ([member, member], [TASK.dev], {}),
        ([member], [TASK.train], {}),
        ([member], [TASK.dev.take(np.arange(3))], {}),
        ([member], [TASK.dev], {"decoding": replace(BEAMS, beams=3)}),
        ([member], [TASK.dev], {"decoding": replace(BEAMS, length_penalty=0.5)}),
        ([member], [TASK.dev], {"device": replace(CPU, precision="bf16")}),
        ([member], [TASK.dev], {"task": other}),
    ):
        with pytest.raises(AssertionError, match="said anew"):
            said(tmp_path, members, rows, **keys)


def test_saying_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = member_of(tmp_path)
    wanted = said(tmp_path / "whole", [member], [TASK.train])
    monkeypatch.setattr(texts_module, "_PART_ROWS", 10)
    stages = stage_folder(tmp_path)
    texts_of = SequenceNetwork.texts
    sizes: list[int] = []

    def counted(self: SequenceNetwork, tokens: TokenRows, *args: Any, **keys: Any) -> Any:
        sizes.append(len(tokens))
        if len(sizes) == 2:
            stages.progress.stop.requested = "Ctrl-C"
        return texts_of(self, tokens, *args, **keys)

    monkeypatch.setattr(SequenceNetwork, "texts", counted)
    with pytest.raises(Stopped):
        said(tmp_path, [member], [TASK.train], stages=stages)
    (first,) = tmp_path.rglob("part-*")
    stages.progress.stop.requested = None
    assert said(tmp_path, [member], [TASK.train], stages=stages) == wanted
    assert sizes == [10, 10, 10, 4]  # the second was broken off, the first stood
    assert not first.exists()


def test_a_changed_part_is_said_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = member_of(tmp_path)
    wanted = said(tmp_path / "whole", [member], [TASK.train])
    monkeypatch.setattr(texts_module, "_PART_ROWS", 10)
    stages = stage_folder(tmp_path)
    texts_of = SequenceNetwork.texts
    calls: list[int] = []

    def stops(self: SequenceNetwork, tokens: TokenRows, *args: Any, **keys: Any) -> Any:
        calls.append(len(tokens))
        if len(calls) == 2:
            stages.progress.stop.requested = "Ctrl-C"
        return texts_of(self, tokens, *args, **keys)

    monkeypatch.setattr(SequenceNetwork, "texts", stops)
    with pytest.raises(Stopped):
        said(tmp_path, [member], [TASK.train], stages=stages)
    (part,) = tmp_path.rglob("part-*")
    flip_byte(part, 5)
    stages.progress.stop.requested = None
    assert said(tmp_path, [member], [TASK.train], stages=stages) == wanted
    assert calls == [10, 10, 10, 10, 4]


def test_members_of_other_vocabularies_are_refused(tmp_path: Path) -> None:
    one = member_of(tmp_path)
    network = sequence_network(sequence_base(tmp_path / "base2", seed=3), [TASK])
    save_network(network, tmp_path / "other")
    seal(tmp_path / "other", {})
    other = Member(name="other", folder=tmp_path / "other", digest="other")
    with pytest.raises(MismatchError, match="different vocabularies"):
        said(tmp_path, [one, other], [TASK.dev])
    said(tmp_path, [other], [TASK.dev])
    with pytest.raises(MismatchError, match="different vocabularies"):
        pieces(tmp_path, [one, other])
    assert len(pieces(tmp_path, [other])[1]) == 1


def test_several_given_teachers_are_refused(tmp_path: Path) -> None:
    given = [Member(name=f"{k}", folder=tmp_path, digest=f"{k}", source="scores") for k in range(2)]
    with pytest.raises(MismatchError, match="2 teachers that say texts of their own"):
        said(tmp_path, given, [TASK.dev])


def test_stop_is_obeyed(tmp_path: Path) -> None:
    stages = stage_folder(tmp_path)
    stages.progress.stop.requested = "Ctrl-C"
    with pytest.raises(Stopped, match="before w"):
        said(tmp_path, [member_of(tmp_path)], [TASK.dev], stages=stages)


# -- pieces -------------------------------------------------------------------------------------


def pieces(root: Path, members: Sequence[Member], task: Task = TASK) -> Any:
    opened, digests = label_pieces(stage_folder(root), members, task, device=CPU, what="w")
    return opened(), digests


def test_pieces_are_the_networks_opinions_of_the_targets(tmp_path: Path) -> None:
    members = [member_of(tmp_path, k) for k in range(2)]
    store, digests = pieces(tmp_path, members)
    assert len(set(digests)) == 2
    assert TASK.train.labels is not None
    order = np.random.default_rng(0).permutation(len(TASK.train))
    rows = TASK.train.take(order)
    ids = pair_ids(rows)
    slots = store.slots_at(ids)
    found, cover = store.find(ids, slots)
    assert cover.all()
    for k in range(2):
        network = network_of(tmp_path, k)
        targets = network.tokenise_targets([str(text) for text in rows.labels])  # type: ignore[union-attr]
        assert slots.tolist() == targets.lengths.tolist()
        own = network.kept_pieces(network.tokenise("de", rows.inputs), targets, CPU)
        width = own.shape[1] // 2
        np.testing.assert_allclose(found[k][:, :width], own[:, :width], rtol=1e-3, atol=1e-3)
        different = found[k][:, width:] != own[:, width:]
        assert different.mean() < 0.02  # of pieces as likely as one another either comes first
    again, _ = pieces(tmp_path, members)
    np.testing.assert_array_equal(again.members, store.members)


def test_a_source_with_two_targets_keeps_both(tmp_path: Path) -> None:
    rows = [
        {"en": "the cat", "de": "der Katze"},
        {"en": "the cat", "de": "Katze"},
        {"en": "old town", "de": "alt Stadt"},
        {"en": "the cat", "de": "der Katze"},  # once more the same
    ]
    task = sequence_task("de", train=rows, dev=4)
    member = member_of(tmp_path)
    store, _ = pieces(tmp_path, [member], task)
    assert len(store.ids) == 3
    ids = pair_ids(task.train)
    slots = store.slots_at(ids)
    network = network_of(tmp_path, 0)
    targets = network.tokenise_targets([row["de"] for row in rows])
    assert slots.tolist() == targets.lengths.tolist()
    found, cover = store.find(ids, slots)
    assert cover.all()
    ends = np.cumsum(slots)
    parts = np.split(found[0], ends[:-1])
    np.testing.assert_array_equal(parts[0], parts[3])
    assert parts[0].shape != parts[1].shape
    own = network.kept_pieces(network.tokenise("de", task.train.inputs), targets, CPU)
    np.testing.assert_allclose(found[0][:, :8], own[:, :8], rtol=1e-3, atol=1e-3)


def test_pieces_of_a_row_are_covered_by_who_has_not_seen_it(tmp_path: Path) -> None:
    members = [member_of(tmp_path, k, fold=k, n_folds=3) for k in range(3)]
    store, _ = pieces(tmp_path, members)
    ids = pair_ids(TASK.train)
    _, cover = store.find(ids, store.slots_at(ids))
    parts = folds(TASK, 3)
    for k in range(3):
        assert cover[k].tolist() == (parts == k).tolist()


def test_other_pairs_are_not_known(tmp_path: Path) -> None:
    store, _ = pieces(tmp_path, [member_of(tmp_path)])
    other = sequence_task("de", train=pair_rows(5, 40), dev=4)
    ids = pair_ids(other.train)
    known = np.isin(other.train.inputs["en"], TASK.train.inputs["en"])
    assert not known.all()
    slots = store.slots_at(ids)
    assert (slots[~known] == 0).all()
    assert store.find(ids, slots)[1][0].tolist() == known.tolist()


def test_other_targets_are_labelled_anew(tmp_path: Path) -> None:
    member = member_of(tmp_path)
    _, one = pieces(tmp_path, [member])
    labels = TASK.train.labels
    assert labels is not None
    changed = replace(TASK, train=replace(TASK.train, labels=labels[::-1]))
    _, other = pieces(tmp_path, [member], changed)
    assert one != other
    assert pieces(tmp_path, [member])[1] == one
    assert pieces(tmp_path, [replace(member, fold=0, n_folds=2)])[1] != one


def test_damaged_pieces_are_refused(tmp_path: Path) -> None:
    member = member_of(tmp_path)
    pieces(tmp_path, [member])
    (shard,) = (tmp_path / "stages").rglob("shard-*.safetensors")
    flip_byte(shard, -1)
    with pytest.raises(ArtefactError, match=shard.name):
        pieces(tmp_path, [member])
