"""The soft-target store: what each member thinks of each row, kept as raw outputs by row id.

The only bridge from teachers to students. Because outputs (logits) of every member are kept, a
change of temperature, weights or member choice needs no teacher. A store is a sealed folder:

    manifest.json            facts, and SHA-256 of every file; written last
    shard-00000.safetensors  ids (n, 16) uint8; member/<k> (s, C); cover/<k> (n,) uint8;
                             slots (n,) int32, for kinds that answer at several slots of a row

Knows arrays and row ids; no models, no files of the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from potstill.core.arrays import parts_of
from potstill.core.errors import ArtefactError, DataError, MismatchError
from potstill.core.files import MANIFEST, publish, seal, verify, write_bytes
from potstill.kinds import Kind
from potstill.tasks.rowids import sort_keys

STORE_VERSION = 1
_SHARD_ROWS = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """What a store says of itself; a reader that expects anything else is refused.

    Attributes:
        task: Name of the task.
        kind: The kind with its label space, as ``kind.to_json()`` gives it.
        data: Digest of the rows that were labelled.
        teachers: Digest of each member.
    """

    task: str
    kind: Mapping[str, Any]
    data: str
    teachers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The manifest's part."""
        return {
            "format": "potstill soft targets",
            "version": STORE_VERSION,
            "space": "logits",
            "task": self.task,
            "kind": dict(self.kind),
            "data": self.data,
            "teachers": list(self.teachers),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftTargets:
    """A store's content, opened.

    Attributes:
        ids: (N, 16) uint8 row ids.
        members: (M, S, C) outputs in the kind's units, fp32.
        cover: (M, N) bool: the member has an opinion on the row.
        slots: (N,) slots of each row; None where a row is one, and S = N.
    """

    ids: np.ndarray
    members: np.ndarray
    cover: np.ndarray
    slots: np.ndarray | None = None

    def slots_at(self, ids: np.ndarray) -> np.ndarray:
        """(K,) slots of rows in the store; 0 for rows that it does not know."""
        if self.slots is None:
            raise ValueError("a store of a slot a row")
        own, wanted = sort_keys(self.ids), sort_keys(ids)
        order = np.argsort(own, kind="stable")
        rows = order[np.searchsorted(own[order], wanted).clip(max=len(own) - 1)]
        return np.where(own[rows] == wanted, self.slots[rows], 0)

    def find(
        self, ids: np.ndarray, slots: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look rows up by id.

        Args:
            ids: (K, 16) uint8 row ids.
            slots: (K,) slots of each of these rows, where the kind has several.

        Returns:
            (M, sum of slots, C) outputs and (M, K) cover, in the order of ``ids``; rows that the
            store does not know are not covered.

        Raises:
            ValueError: A row has another number of slots here than in the store.
        """
        n_slots = len(ids) if slots is None else int(slots.sum())
        found = np.zeros((len(self.members), n_slots, self.members.shape[-1]), np.float32)
        rows, known = self._places(ids)
        if self.slots is not None and (
            slots is None or not np.array_equal(self.slots[rows[known]], slots[known])
        ):
            raise ValueError("rows with another number of slots than their soft targets have")
        found[:, parts_of(slots, known)] = self.members[:, parts_of(self.slots, rows[known])]
        return found, self.covers(ids)

    def covers(self, ids: np.ndarray) -> np.ndarray:
        """(M, K) which of K rows each member has an opinion on."""
        rows, known = self._places(ids)
        cover = np.zeros((len(self.members), len(ids)), bool)
        cover[:, known] = self.cover[:, rows[known]]
        return cover

    def _places(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row here of each of K rows, and which of the K are here at all."""
        own, wanted = sort_keys(self.ids), sort_keys(ids)
        if not len(own):
            return np.zeros(len(ids), np.int64), np.zeros(0, np.int64)
        order = np.argsort(own, kind="stable")
        rows = order[np.searchsorted(own[order], wanted).clip(max=len(own) - 1)]
        return rows, np.flatnonzero(own[rows] == wanted)


def write_store(
    folder: Path,
    facts: StoreFacts,
    kind: Kind,
    ids: np.ndarray,
    members: Sequence[np.ndarray],
    cover: Sequence[np.ndarray] | None = None,
    slots: np.ndarray | None = None,
) -> None:
    """Write a store; it appears whole or not at all.

    Args:
        folder: Where it will stand.
        facts: What it is of.
        kind: The task's kind; it decides the number format.
        ids: (N, 16) uint8 row ids; equal ids are stored once, as the row that most members cover.
        members: For each member (S, C) outputs in the kind's units.
        cover: For each member (N,) bool; None where every member covers every row.
        slots: (N,) slots of each row; None where a row is one.

    Raises:
        DataError: An output is no finite number, or too large for the number format.
        ResourceError: The disk is full.
        ValueError: A member has another number of outputs than the kind.
    """
    widths = {outputs.shape[1] for outputs in members}
    if not kind.generates and widths != {kind.n_outputs}:
        raise ValueError(
            f"members have {sorted(widths)} outputs, kind {kind.name} {kind.n_outputs}"
        )
    aside = folder.with_name(folder.name + ".writing")
    aside.mkdir(parents=True, exist_ok=True)
    best_first = np.arange(len(ids))
    if cover is not None:
        best_first = np.argsort(-np.sum(cover, axis=0), kind="stable")
    _, places = np.unique(sort_keys(ids)[best_first], return_index=True)
    first = np.sort(best_first[places])
    for number, start in enumerate(range(0, max(len(first), 1), _SHARD_ROWS)):
        rows = first[start : start + _SHARD_ROWS]
        tensors = {"ids": np.ascontiguousarray(ids[rows])}
        own = parts_of(slots, rows)
        if slots is not None:
            tensors["slots"] = slots[rows].astype(np.int32)
        for k, outputs in enumerate(members):
            with np.errstate(over="ignore"):  # looked for below
                stored = kind.to_store(outputs[own])
            sound = np.isfinite(outputs[own])
            if stored.dtype.kind == "f":
                sound &= np.isfinite(stored)
            if not sound.all():
                worst = outputs[own][~sound][0]
                raise DataError(
                    f"task '{facts.task}', outputs of teacher {k + 1}",
                    got=f"{worst:g}",
                    wanted=f"finite numbers that fit {stored.dtype}, which targets are stored in",
                    todo="look at that teacher's outputs or scores: it may have diverged",
                )
            tensors[f"member/{k}"] = np.ascontiguousarray(stored)
            seen = np.ones(len(rows), bool) if cover is None else cover[k][rows]
            tensors[f"cover/{k}"] = seen.astype(np.uint8)
        write_bytes(aside / f"shard-{number:05d}.safetensors", safetensors.numpy.save(tensors))
    counts = [int(len(first) if cover is None else c[first].sum()) for c in cover or members]
    seal(aside, facts.to_json() | {"rows": len(first), "covered": counts})
    publish(aside, folder)


def read_store(folder: Path, expected: StoreFacts, kind: Kind) -> SoftTargets:
    """Open a store, check every byte of it, and refuse one that belongs to something else.

    Raises:
        ArtefactError: A file is missing or damaged.
        MismatchError: The store is of other data, teachers, kind or label order; the message
            says which.
    """
    manifest = verify(folder)
    _compare(folder, manifest, expected.to_json())
    ids, members, cover, slots = [], [], [], []
    n_members = len(expected.teachers)
    for tensors in _shards(folder, manifest):
        ids.append(tensors["ids"])
        slots += [tensors["slots"].astype(np.int64)] if "slots" in tensors else []
        members.append(
            np.stack([kind.from_store(tensors[f"member/{k}"]) for k in range(n_members)])
        )
        cover.append(np.stack([tensors[f"cover/{k}"] for k in range(n_members)]).astype(bool))
    return SoftTargets(
        ids=np.concatenate(ids),
        members=np.concatenate(members, axis=1),
        cover=np.concatenate(cover, axis=1),
        slots=np.concatenate(slots) if slots else None,
    )


def merge(stores: Sequence[SoftTargets]) -> SoftTargets:
    """One ensemble of the members of several stores over the same rows, matched by id."""
    ids, slots = stores[0].ids, stores[0].slots
    found = [store.find(ids, slots) for store in stores]
    return SoftTargets(
        ids=ids,
        slots=slots,
        members=np.concatenate([members for members, _ in found]),
        cover=np.concatenate([cover for _, cover in found]),
    )


def _shards(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    for name in sorted(manifest["files"]):
        try:
            yield safetensors.numpy.load_file(folder / name)
        except (safetensors.SafetensorError, OSError) as error:
            raise ArtefactError(
                str(folder / name),
                got=f"not a safetensors file ({error})",
                wanted="a shard of soft targets",
                todo=f"delete {folder} and run the same command again",
            ) from error


def _compare(folder: Path, manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for key, wanted in expected.items():
        got = manifest.get(key)
        if got == wanted:
            continue
        what = {
            "data": "other rows",
            "teachers": "other teachers",
            "kind": "another kind or label order",
            "task": "another task",
            "space": "another space",
        }.get(key, f"another {key}")
        raise MismatchError(
            f"soft targets in {folder / MANIFEST}",
            got=f"{what}: {key} = {_short(got)}",
            wanted=f"{key} = {_short(wanted)}",
            todo=f"delete {folder} and run the same command again: the rows are labelled anew",
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
