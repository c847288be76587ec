"""Members' opinions on rows: made once, found again, and never of another member."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from filelock import FileLock

from potstill.core.errors import ArtefactError, Stopped
from potstill.core.files import read_json, seal
from potstill.core.progress import Progress
from potstill.models.token_rows import TokenRows
from potstill.targets import label as label_module
from potstill.targets.label import ensemble_labels, label, read_labels
from potstill.targets.parts import Parts, timed
from potstill.tasks.task import folds, slots_of
from potstill.teachers.member import Member
from potstill.training.network import Network, load_encoder_network, save_network
from tests.tiny import CPU, flip_byte, stage_folder, tiny_network, toy_task
from tests.toys import toy_rows

TASK = toy_task(train=24, dev=8, pool=[toy_rows("classification", 10, seed=9)])


def member_of(base: Path, folder: Path, seed: int = 0, **facts: int) -> Member:
    if not folder.exists():
        save_network(tiny_network(base, [TASK], seed=seed), folder)
        seal(folder, {})
    return Member(name=f"m{seed}", folder=folder, digest=f"digest {seed}", **facts)  # type: ignore[arg-type]


def test_labels_are_the_networks_outputs(base: Path, tmp_path: Path) -> None:
    assert TASK.pool is not None
    rows = [TASK.train, TASK.pool]
    members = [member_of(base, tmp_path / f"m{k}", k) for k in range(2)]
    stages = stage_folder(tmp_path)
    opened, digests = ensemble_labels(stages, members, TASK, rows, device=CPU, what="labelling")
    assert len(set(digests)) == 2
    for split in rows:
        outputs, cover = opened.find(split.ids)
        assert cover.all()
        for k, member in enumerate(members):
            network = load_encoder_network(member.folder)
            tokens = network.tokenise(TASK.name, split.inputs)
            own = network.outputs(tokens, (TASK.name,), CPU)[TASK.name]
            np.testing.assert_allclose(outputs[k], own, rtol=1e-3, atol=1e-4)
    again, _ = ensemble_labels(
        stage_folder(tmp_path), members, TASK, rows, device=CPU, what="labelling"
    )
    np.testing.assert_array_equal(again.members, opened.members)


def test_seconds_are_those_of_all_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with suppress(KeyError), timed(tmp_path):
        work = Parts(tmp_path)
        now[0] += 5
        work.keep("0-1", b"a")
        now[0] += 3  # lost: no part was kept since
        raise KeyError
    now[0] += 1000
    with timed(tmp_path):
        assert Parts(tmp_path).known("0-1") == b"a"
        now[0] += 2
    assert read_json(tmp_path / "timing.json") == {"seconds": 7.0}


@pytest.mark.parametrize("kind", ["multilabel", "tagging", "span", "unanswerable"])
def test_labels_of_every_place_where_a_task_answers(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also of texts that are read in windows, and labelled a part at a time."""
    monkeypatch.setattr(label_module, "_PART_ROWS", 5)
    task = toy_task(kind, train=12, dev=8, pool=[toy_rows(kind, 6, seed=9)])
    assert task.pool is not None
    rows = [task.train, task.pool]
    network = tiny_network(base, [task], max_tokens=8)
    save_network(network, tmp_path / "m")
    seal(tmp_path / "m", {})
    member = Member(name="m", folder=tmp_path / "m", digest="a digest")
    opened, _ = ensemble_labels(stage_folder(tmp_path), [member], task, rows, device=CPU, what="w")
    for split in rows:
        tokens = network.tokenise(task.name, split.inputs)
        assert kind == "multilabel" or len(tokens) > tokens.n_rows == len(split)
        own = network.outputs(tokens, (task.name,), CPU)[task.name]
        order = np.random.default_rng(0).permutation(len(split))
        taken = split.take(order)
        outputs, cover = opened.find(taken.ids, slots_of(task, taken))
        assert cover.all()
        slots = slots_of(task, split)
        places = order
        if slots is not None:
            assert len(own) == slots.sum()
            ends = np.cumsum(slots)
            places = np.concatenate([np.arange(ends[i] - slots[i], ends[i]) for i in order])
        np.testing.assert_allclose(outputs[0], own[places], rtol=1e-3, atol=1e-4)


def test_what_is_labelled_once_is_found_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = member_of(base, tmp_path / "m")
    first = label(stage_folder(tmp_path), member, TASK, [TASK.dev], device=CPU, what="w")

    def never(*args: object) -> None:
        raise AssertionError("labelled anew")

    monkeypatch.setattr(label_module, "_opinion", never)
    again = label(stage_folder(tmp_path), member, TASK, [TASK.dev], device=CPU, what="w")
    assert again.folder == first.folder
    renamed = replace(member, name="another name", dev=0.3)
    label(stage_folder(tmp_path), renamed, TASK, [TASK.dev], device=CPU, what="w")
    changed = [
        (replace(member, digest="retrained"), TASK, [TASK.dev]),
        (replace(member, fold=0, n_folds=2), TASK, [TASK.dev]),
        (member, replace(TASK, name="other"), [TASK.dev]),
        (member, TASK, [TASK.train]),
        (member, TASK, [TASK.dev, TASK.train]),
        (member, TASK, [TASK.dev.take(np.arange(7))]),
    ]
    for other, task, rows in changed:
        with pytest.raises(AssertionError, match="labelled anew"):
            label(stage_folder(tmp_path), other, task, rows, device=CPU, what="w")


def test_other_labels_of_the_same_rows_are_no_reason_to_label_anew(
    base: Path, tmp_path: Path
) -> None:
    member = member_of(base, tmp_path / "m")
    stages = stage_folder(tmp_path)
    assert TASK.dev.labels is not None
    relabelled = replace(TASK.dev, labels=1 - TASK.dev.labels)
    first = label(stages, member, TASK, [TASK.dev], device=CPU, what="w")
    assert label(stages, member, TASK, [relabelled], device=CPU, what="w") is first


def test_members_that_left_out_a_fold_speak_of_that_fold_alone(base: Path, tmp_path: Path) -> None:
    assert TASK.pool is not None
    members = [member_of(base, tmp_path / "m", fold=k, n_folds=3) for k in range(3)]
    opened, _ = ensemble_labels(
        stage_folder(tmp_path), members, TASK, [TASK.train, TASK.pool], device=CPU, what="w"
    )
    _, cover = opened.find(TASK.train.ids)
    parts = folds(TASK, 3)
    for k in range(3):
        assert cover[k].tolist() == (parts == k).tolist()
    assert cover.sum(0).tolist() == [1] * len(TASK.train)
    assert opened.find(TASK.pool.ids)[1].all()


def test_damaged_labels_are_refused(base: Path, tmp_path: Path) -> None:
    member = member_of(base, tmp_path / "m")
    stage = label(stage_folder(tmp_path), member, TASK, [TASK.dev], device=CPU, what="w")
    (shard,) = stage.folder.rglob("*.safetensors")
    flip_byte(shard, -1)
    with pytest.raises(ArtefactError, match=shard.name):
        read_labels(stage, member, TASK, [TASK.dev])
    with pytest.raises(ArtefactError, match=shard.name):
        label(stage_folder(tmp_path), member, TASK, [TASK.dev], device=CPU, what="w")


def test_stop_is_obeyed(base: Path, tmp_path: Path) -> None:
    stages = stage_folder(tmp_path)
    stages.progress.stop.requested = "Ctrl-C"
    with pytest.raises(Stopped, match="before w"):
        label(stages, member_of(base, tmp_path / "m"), TASK, [TASK.dev], device=CPU, what="w")


def test_waiting_for_another_process_can_be_stopped(base: Path, tmp_path: Path) -> None:
    member = member_of(base, tmp_path / "m")
    stage = label(stage_folder(tmp_path), member, TASK, [TASK.dev], device=CPU, what="w")
    stages = stage_folder(tmp_path)
    stages.progress.stop.deadline = time.monotonic() + 0.5
    with (
        FileLock(stages.root / f".{stage.folder.name}.lock"),
        pytest.raises(Stopped, match="waiting for w"),
    ):
        label(stages, member, TASK, [TASK.dev], device=CPU, what="w")


def test_labelling_continues_where_it_stopped(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = member_of(base, tmp_path / "m")
    whole = label(stage_folder(tmp_path / "a"), member, TASK, [TASK.train], device=CPU, what="w")
    wanted = read_labels(whole, member, TASK, [TASK.train])
    monkeypatch.setattr(label_module, "_PART_ROWS", 10)
    stages = stage_folder(tmp_path)
    outputs_of = Network.outputs
    sizes: list[int] = []

    def counted(self: Network, tokens: TokenRows, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(tokens))
        if len(sizes) == 2:
            stages.progress.stop.requested = "Ctrl-C"
        return outputs_of(self, tokens, *args, **kwargs)

    monkeypatch.setattr(Network, "outputs", counted)
    with pytest.raises(Stopped):
        label(stages, member, TASK, [TASK.train], device=CPU, what="w")
    (first,) = tmp_path.rglob("part-0-*")
    stages.progress.stop.requested = None
    stage = label(stages, member, TASK, [TASK.train], device=CPU, what="w")
    assert sizes == [10, 10, 10, 4]  # the second was broken off, the first stood
    again = read_labels(stage, member, TASK, [TASK.train])
    np.testing.assert_allclose(again.members, wanted.members, rtol=1e-3, atol=1e-3)
    assert not list(tmp_path.rglob("part-*"))
    assert not first.exists()


def test_a_changed_part_is_made_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []

    def answer(start: int, end: int) -> np.ndarray:
        made.append((start, end))
        return np.arange(start, end, dtype=np.float32)[:, None]

    monkeypatch.setattr(label_module, "_PART_ROWS", 4)
    for _ in range(2):
        with Progress().bar("x", 10) as bar:
            outputs = label_module.in_parts(tmp_path, 10, answer, bar)
        assert outputs[:, 0].tolist() == list(range(10))
    assert made == [(0, 4), (4, 8), (8, 10)]
    (part,) = tmp_path.glob("part-4-8-*")
    flip_byte(part, -1)
    with Progress().bar("x", 10) as bar:
        assert label_module.in_parts(tmp_path, 10, answer, bar)[:, 0].tolist() == list(range(10))
    assert made[3:] == [(4, 8)]


@pytest.mark.parametrize(("source", "n_stages"), [("network", 1), ("scores", 3)])
def test_keys_are_a_part_of_what_scores_are_joined_by(
    source: Literal["network", "scores"], n_stages: int
) -> None:
    keyed = replace(TASK.train, keys=[str(i) for i in range(len(TASK.train))])
    moved = replace(keyed, keys=[str(i + 1) for i in range(len(TASK.train))])
    member = Member(name="m", folder=Path("m"), digest="d", source=source)
    stores = [
        label_module._facts(member, TASK, [split]).data for split in (TASK.train, keyed, moved)
    ]
    assert len(set(stores)) == n_stages
