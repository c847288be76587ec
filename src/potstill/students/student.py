"""The student: a finished multi-task network, loaded from its folder, that answers rows.

student = Student.load("runs/x/student")
student.predict({"sentence": "A warm, funny film."}, tasks=["sst2"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from potstill.core.device import Device, resolve_device
from potstill.core.errors import ArtefactError, UsageError
from potstill.core.files import MANIFEST, verify
from potstill.models.base_folder import STUDENT_FILE
from potstill.students.classifier import save_classifier
from potstill.students.translator import save_translator
from potstill.tasks.inputs import Columns
from potstill.tasks.predictor import Predictor, TaskHead, leader, lost_ends
from potstill.training.network import AnyNetwork, load_network
from potstill.training.sequence_network import SequenceNetwork


class Student(Predictor):
    """One network that answers many tasks.

    Args:
        network: Encoder, heads and label spaces; or an encoder-decoder.
        folder: Where it was loaded from.
        device: Where it runs.
    """

    def __init__(self, network: AnyNetwork, folder: Path, device: Device) -> None:
        self.network = network
        self.folder = folder
        self.device = device

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Student:
        """Load a student after checking every byte against its manifest.

        Args:
            folder: A student's folder, or a run's folder that holds one.
            device: ``auto``, ``cpu``, ``cuda``, ``mps``.
            precision: ``auto``, ``fp32`` or ``bf16``.

        Raises:
            ArtefactError: No student is there, or a file of it is damaged.
            UsageError: There is no such precision.
        """
        place = Path(folder)
        if not (place / STUDENT_FILE).is_file() and (place / "student" / STUDENT_FILE).is_file():
            place = place / "student"
        if not (place / STUDENT_FILE).is_file():
            raise ArtefactError(
                f"student folder {place}",
                got="no student there" if place.is_dir() else "no such folder",
                wanted=f"a run's folder, or a student's ({STUDENT_FILE} is in it)",
                todo="give the folder that `potstill run` printed (`potstill runs` lists them); "
                "a bundle, as `potstill export` writes it, can be loaded and served, but has no "
                "student in it",
            )
        if precision not in ("auto", "fp32", "bf16"):
            raise UsageError(
                "precision",
                got=repr(precision),
                wanted="'auto', 'fp32' or 'bf16'",
                todo="leave it out for what the hardware does best",
            )
        again = "copy the student's folder whole, or run the command that made it again"
        if (place / MANIFEST).is_file():
            verify(place, todo=again)
        else:
            raise ArtefactError(
                str(place / MANIFEST),
                got="no manifest",
                wanted="the digests of the student's files",
                todo=again,
            )
        resolved = resolve_device(device, precision)  # type: ignore[arg-type]
        return cls(load_network(place), place, resolved)

    @property
    def n_parameters(self) -> int:
        """Parameters of all its parts."""
        return self.network.n_parameters

    @property
    def heads(self) -> Mapping[str, TaskHead]:
        return self.network.tasks

    @property
    def task_token(self) -> bool:
        return self.network.task_token

    @property
    def max_tokens(self) -> int:
        return self.network.max_tokens

    def outputs(
        self, tasks: Sequence[str], inputs: Columns
    ) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        tokens = self.network.tokenise(leader(self.heads, tasks), inputs)
        if isinstance(self.network, SequenceNetwork):
            outputs = dict.fromkeys(tasks, self.network.texts(tokens, self.device))
        else:
            outputs = self.network.outputs(tokens, tasks, self.device)
        return outputs, lost_ends(self.heads, tasks, tokens)

    def save_task(self, task: str, folder: str | Path) -> Path:
        """Write one task as a standard model of transformers.

        ``AutoModelForSequenceClassification.from_pretrained(folder)`` then gives the same logits;
        for tags it is ``AutoModelForTokenClassification``, for answers in a passage
        ``AutoModelForQuestionAnswering``: :func:`potstill.students.classifier.save_classifier` says
        how. For tasks that say texts it is ``AutoModelForSeq2SeqLM``, with a tokenizer that puts
        the task's token before the text.

        Raises:
            UsageError: The task is unknown, or cannot be said as such a model.
        """
        if task not in self.network.tasks:
            raise self.unknown_task(task)
        if isinstance(self.network, SequenceNetwork):
            return save_translator(self.network, task, Path(folder))
        return save_classifier(self.network, task, Path(folder))
