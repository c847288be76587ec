"""Models that exist already and can teach: which folder they are, and that it stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.core.errors import BaseModelError
from potstill.core.files import changed, digest_file, digest_json
from potstill.models.base_folder import STUDENT_FILE, find_base, student_of_run
from potstill.teachers.member import Member

_OF_TEXTS = ("*.json", "*.txt", "*.spm", "*.model")
"""What may decide, beside weights, what an encoder-decoder says: each family has its own files."""


def classifier_member(
    model: str, labels: Sequence[str] | None, name: str, *, says: bool = False
) -> Member:
    """A member from a model's folder or hub id; nothing is opened but its digests.

    Args:
        model: The folder or hub id; for texts also the folder of a student of potstill.
        labels: What its outputs mean, in their order.
        name: What reports call it.
        says: It says texts.

    Raises:
        BaseModelError: It is not there, or is a student where a classifier is wanted.
    """
    own = student_of_run(model)
    model = model if own is None else str(own)
    try:
        found = find_base(model)
    except BaseModelError as error:
        what = "an encoder-decoder's or a student's folder" if says else "a classifier's folder"
        raise BaseModelError(
            f"teacher '{model}'",
            got=error.got,
            wanted=f"{what}, or the hub id of one that is stored on this machine",
            todo="correct `teachers: {models: …}` of its task",
        ) from error
    student = Path(model).expanduser()
    is_student = (student / STUDENT_FILE).is_file()
    if is_student and not says:
        raise BaseModelError(
            f"teacher '{model}'",
            got="a student of potstill, which has heads for its own tasks",
            wanted="a model in transformers' format, of one task",
            todo="write one with `potstill export FOLDER --task NAME --out MODEL`, and name that",
        )
    facts: dict[str, object] = {"model": found.digest, "labels": list(labels or [])}
    if is_student:
        facts["student"] = digest_file(student / STUDENT_FILE)
    elif says:
        files = sorted(path for form in _OF_TEXTS for path in found.path.glob(form))
        facts["texts"] = {path.name: digest_file(path) for path in files}
    return Member(
        name=name,
        folder=student if is_student else found.path,
        digest=digest_json(facts),
        source="classifier",
        labels=tuple(labels or ()),
    )


def need_unchanged(member: Member, *, says: bool = False) -> None:
    """Refuse a given model whose files are others than when the member was made.

    To be called when it is loaded: what it says is kept under the member's digest.

    Args:
        member: Of `classifier_member`.
        says: It says texts.

    Raises:
        ArtefactError: A file has changed.
    """
    now = classifier_member(str(member.folder), member.labels, member.name, says=says)
    if now.digest != member.digest:
        raise changed(f"teacher {member.folder}")
