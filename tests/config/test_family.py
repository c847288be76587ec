"""What a run file of texts for texts may hold, and what it settles by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.conftest import Load, Refuse
from tests.config.test_faults import has

ONE = (
    "tasks:\n"
    "  en-de: {kind: translation, train: a.jsonl, source: en, target: de}\n"
    "  en-fr: {kind: translation, train: a.jsonl, source: en, target: fr}\n"
)


def test_defaults_of_texts(load: Load) -> None:
    run = load(ONE)
    assert (run.base, run.teachers.recipe, run.teachers.members) == ("marian", "single", 1)
    assert run.training_for("student").learning_rate == 1e-3
    assert run.training_for("student").mixing == "equal"
    assert run.training_for("student").balance == run.training_for("teachers").balance == "none"
    assert run.distill.stop_when_ahead == 0.01
    assert run.tasks["en-de"].space_options["language"] == "de"
    assert load(ONE + "distill: {objective: sequence}\n").distill.stop_when_ahead is None
    assert load(ONE + "training: {learning_rate: 5.0e-4}\n").training.learning_rate == 5e-4


def test_sides_have_sizes_of_their_own(load: Load, refuse: Refuse) -> None:
    run = load(
        ONE
        + "architecture: {width: 96, heads: 6}\nstudent: {architecture: {width: 48, heads: 3}}\n"
    )
    assert (run.student.architecture.width, run.student.architecture.heads) == (48, 3)
    assert (run.teachers.architecture.width, run.teachers.architecture.heads) == (96, 6)
    said = refuse(
        ONE + "architecture: {width: 96, heads: 6}\nstudent: {architecture: {width: 64}}\n"
    )
    has(said, "key 'student.architecture.width'", "width 64 for 6 heads", "multiple of `heads`")
    load(ONE + "architecture: {width: 96}\nstudent: {architecture: {heads: 3}}\n")


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ("distill: {objective: sequence, stop_when_ahead: 0.05}", "distill.stop_when_ahead", "no"),
        ("distill: {objective: logit_mse}", "distill.objective", "likely pieces"),
        ("teachers: {recipe: mt-dnn-kd}", "teachers.recipe", "single, multitask or finetuned"),
        ("training: {head_dropout: 0.2}", "training.head_dropout", "no heads"),
        ("training: {head_learning_rate: 1.0e-3}", "training.head_learning_rate", "no heads"),
        ("student: {training: {head_dropout: 0.2}}", "student.training.head_dropout", "no heads"),
        ("student: {task_token: true}", "student.task_token", "before every source"),
        ("student: {pooling: cls}", "student.pooling", "reads every token"),
        ("base: minilm", "base", "an encoder"),
        ("architecture: {width: 255}", "architecture.width", "multiple of `heads`"),
    ],
)
def test_keys_that_do_nothing_are_refused(refuse: Refuse, lines: str, key: str, said: str) -> None:
    has(refuse(ONE + lines + "\n"), f"key '{key}'", said)


def test_a_column_that_is_no_name_needs_a_language(refuse: Refuse, load: Load) -> None:
    task = "tasks:\n  a: {kind: translation, train: a.jsonl, source: en, target: German text"
    has(refuse(task + "}\n"), "key 'tasks.a.language'", "'German text'", "set `language:`")
    assert load(task + ", language: de}\n").tasks["a"].space_options["language"] == "de"


def test_a_language_is_the_targets_and_not_the_sources(refuse: Refuse, load: Load) -> None:
    task = (
        "tasks:\n  a: {kind: translation, train: x.jsonl, source: de, target: %s, language: %s}\n"
    )
    has(refuse(task % ("en", "de")), "key 'tasks.a.language'", "'de'", "say `language: en`")
    for target, language in (("en", "en_GB"), ("simple", "de"), ("de_AT", "de_AT")):
        load(task % (target, language))


def test_columns_that_name_no_language_do_not_tell_directions_apart(
    refuse: Refuse, load: Load
) -> None:
    task = "  {0}: {{kind: translation, train: {0}.jsonl, source: source, target: target{1}}}\n"
    said = refuse("tasks:\n" + task.format("german", "") + task.format("french", ""))
    has(said, "key 'tasks.french.language'", "as for task 'german'", "set it for both")
    refuse("tasks:\n" + task.format("german", ", language: target") + task.format("french", ""))
    for one, other in (("de", "fr"), ("de", "de")):  # the same where both are one language
        lines = task.format("a", f", language: {one}") + task.format("b", f", language: {other}")
        assert set(load("tasks:\n" + lines).tasks) == {"a", "b"}
    by_name = "  {0}: {{kind: translation, train: {0}.jsonl, source: en, target: de}}\n"
    load("tasks:\n" + by_name.format("news") + by_name.format("chat"))
    load(ONE + "  fr-de: {kind: translation, train: a.jsonl, source: fr, target: de}\n")


def test_students_in_their_runs_decide_together(refuse: Refuse, load: Load, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        (folder / "student").mkdir(parents=True)
        (folder / "student" / "student.json").write_text("{}")
    task = "tasks:\n  a: {kind: translation, train: a.jsonl, source: en, target: de, teachers: "
    end = "}\ndistill: {objective: sequence}\n"
    load(task + f"{{models: [{folders[0]}, {folders[1]}]}}" + end)
    has(refuse(task + f"{{models: [{folders[0]}, elsewhere]}}" + end), "several students")


@pytest.mark.parametrize("section", ["architecture: {width: 64}", "decoding: {beams: 2}"])
def test_encoders_have_no_such_sections(refuse: Refuse, section: str) -> None:
    task = "tasks:\n  a: {kind: classification, train: a.csv, text: text}\n"
    has(refuse(task + section + "\n"), "no such section", "of generation and translation")


def test_teachers_that_exist_need_an_objective_that_is_named(refuse: Refuse, load: Load) -> None:
    task = "tasks:\n  a: {kind: translation, train: a.jsonl, source: en, target: de, teachers: "
    for given in ("{models: [there]}", "{scores: there.jsonl}"):
        said = refuse(task + given + "}\n")
        has(said, "next:   write `distill: {objective: sequence}`", "the objective average")
        load(task + given + "}\ndistill: {objective: sequence}\n")


@pytest.mark.parametrize("kind", ["translation", "generation"])
def test_smoothing_beyond_its_range_is_a_fault_of_the_run_file(refuse: Refuse, kind: str) -> None:
    task = f"tasks:\n  a: {{kind: {kind}, train: a.jsonl, source: en, target: de, "
    for value, said in (("1", "below 1"), ("-0.1", "at least 0")):
        where = "run.yaml, line 2, column", "key 'tasks.a.label_smoothing'"
        has(refuse(task + f"label_smoothing: {value}}}\n"), *where, said)


def test_a_typo_in_the_only_kind_is_the_only_fault(refuse: Refuse) -> None:
    task = "tasks:\n  a: {kind: translate, train: a.jsonl, source: en, target: de}\n"
    said = refuse("architecture: {width: 64}\n" + task)
    has(said, "key 'tasks.a.kind'", "nearest: 'translation'")
    assert "architecture" not in said
    said = refuse("decoding: {beams: 2}\n" + task.replace("translate", "mt"))
    assert "decoding" not in said
