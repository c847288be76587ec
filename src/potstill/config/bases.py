"""What a base that stands says of itself, against what the run file wants of it.

Only local folders and the bundled base are looked at; of others the training says what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from potstill.config.checks import Errors
from potstill.config.faults import KeyPath
from potstill.config.fields import BUNDLED_BASE, SEQUENCE_BASE, refusal
from potstill.config.sections import Student, Teachers
from potstill.config.training import Architecture
from potstill.models.base_folder import facts_of_base, student_of_run

_FAMILIES = {
    True: "an encoder-decoder, the network of generation and translation",
    False: "an encoder, the network of classes, numbers, tags and spans",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Net:
    """A network that starts from a base: what it takes of it, and where the run file says so."""

    side: str
    base: str
    base_path: KeyPath
    layers: int | None
    layers_path: KeyPath


def check_bases(
    teachers: Teachers,
    student: Student,
    *,
    base: str,
    architecture: Architecture,
    given: Collection[str],
    says: bool,
) -> Errors:
    """Bases of the other family, too few layers, a size beside a base that has its own.

    Args:
        teachers: Their section.
        student: Its section.
        base: The run's base.
        architecture: Of both sides.
        given: The top keys that the run file sets.
        says: The run's tasks say texts.
    """
    nets = list(_nets(teachers, student, base))
    found = dict(error for net in nets for error in _check(net, says))
    if says and not found:  # of a wrong base only that it is wrong
        names = (SEQUENCE_BASE, BUNDLED_BASE)  # the second is refused by its name
        made = {net.side for net in nets if net.base in names}
        default = Architecture()  # a shown run file has it
        if "architecture" in given and architecture != default and not made:
            found["architecture",] = _own_size(nets[0].base)
        for name, section in (("teachers", teachers), ("student", student)):
            if section.architecture.given() and name not in made:
                own = next(net.base for net in nets if net.side == name)
                found[name, "architecture"] = _own_size(own)
    return list(found.items())


def _nets(teachers: Teachers, student: Student, base: str) -> Iterator[_Net]:
    for side, section in (("student", student), ("teachers", teachers)):
        common = _Net(
            side=side,
            base=section.base or base,
            base_path=(side, "base") if section.base else ("base",),
            layers=section.layers,
            layers_path=(side, "layers"),
        )
        each = section.each if isinstance(section, Teachers) else ()
        if not each:
            yield common
        for i, own in enumerate(each):
            same = own.base in (None, common.base)
            shared = own.layers is None and same
            yield _Net(
                side=side,
                base=own.base or common.base,
                base_path=("teachers", "each", i, "base") if own.base else common.base_path,
                layers=common.layers if shared else own.layers,
                layers_path=common.layers_path if shared else ("teachers", "each", i, "layers"),
            )


def _check(net: _Net, says: bool) -> Errors:
    if net.base == SEQUENCE_BASE or (net.base == BUNDLED_BASE and says):
        return []  # the family's own checks speak of these names
    student = student_of_run(net.base)
    if student is not None:
        todo = f"name the student in it: {student}"
        return [(net.base_path, refusal("a model's folder", got="a run's folder", todo=todo))]
    facts = facts_of_base(net.base)
    if facts is None:
        return []
    if facts.says != says:
        error = refusal(
            f"{_FAMILIES[says]} (task kinds decide which)",
            got=f"the folder of {_FAMILIES[facts.says]}",
            todo="name a base of this family, or give these tasks to a run of the other",
        )
        return [(net.base_path, error)]
    if net.layers is None or facts.n_layers is None or net.layers <= facts.n_layers:
        return []
    error = refusal(
        f"1 to {facts.n_layers}, the layers of its base {net.base}",
        todo="set fewer, or name a deeper base",
    )
    return [(net.layers_path, error)]


def _own_size(base: str) -> PydanticCustomError:
    return refusal(
        "no such key: a base that stands has its own size and vocabulary",
        got=f"a size beside the base {base}",
        todo="remove it (`layers:` keeps fewer), or start from nothing with `base: marian`",
    )
