"""Advice follows from what the intervals carry, and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill.cli.frame import show_result
from potstill.evaluation.advice import advice
from potstill.evaluation.report import render_report
from potstill.evaluation.run_details import read_details
from potstill.evaluation.run_results import read_results
from potstill.pipeline.run_folder import RunResult

Document = dict[str, Any]


def results(
    tasks: dict[str, tuple[str, float, float]],
    *,
    multitask: float = 0.7,
    ensemble: float = 0.7,
    student: float = 0.7,
    half: float = 0.02,
    seeds: int = 1,
) -> Document:
    """Tasks by verdict, multi-task score and ensemble score; means with intervals."""

    def versus(other: float) -> dict[str, float]:
        delta = student - other
        return {"delta": delta, "low": delta - half, "high": delta + half}

    return {
        "version": 1,
        "tasks": {
            name: {
                "metric": "accuracy",
                "n": 100,
                "scores": {"multitask": plain, "ensemble": teachers, "student": 0.5},
                "verdict": verdict,
                "per_seed": [{"seed": i, "scores": {}} for i in range(seeds)],
            }
            for name, (verdict, plain, teachers) in tasks.items()
        },
        "mean": {
            "multitask": multitask,
            "ensemble": ensemble,
            "student": student,
            "student_vs_multitask": versus(multitask),
            "student_vs_ensemble": versus(ensemble),
        },
    }


def said(document: Document) -> str:
    return "\n".join(advice(read_results(document)))


def test_nothing_learned_is_no_question_of_seeds() -> None:
    document = results(
        {"tags": ("no difference", 0.0, 0.0)}, multitask=0.0, ensemble=0.0, student=0.0, half=0.0
    )
    document["tasks"]["tags"]["scores"]["student"] = 0.0
    assert said(document).startswith("No system has learned anything: all scores are 0.000.")
    assert "seed" not in said(document)


def test_a_student_that_stands_up_is_told_nothing() -> None:
    assert said(results({"mood": ("helped", 0.6, 0.7)}, student=0.75, ensemble=0.74)) == ""


def test_nobody_is_told_to_train_teachers_that_were_given() -> None:
    document = results({"mood": ("hurt", 0.744, 0.6)}, student=0.6)

    def told(*members: str) -> str:
        entries = [{"task": "mood", "member": name} for name in members]
        return "\n".join(advice(read_results(document), read_details({"members": entries})))

    assert "Train them longer" in told("teacher 1/2", "teacher 2/2")
    given = told("given 1", "given 2")
    assert "Train them longer" not in given
    assert "fine-tune" not in given
    assert given.count("Bring better ones (`models:`)") == 2
    assert "Train them longer" not in told("given scores")


def test_a_task_that_weak_teachers_hurt_is_named_with_both_scores() -> None:
    text = said(results({"mood": ("hurt", 0.744, 0.6), "tone": ("helped", 0.5, 0.6)}, student=0.6))
    assert "hurt 'mood'" in text
    assert "tone" not in text
    assert "0.600 against 0.744" in text
    assert "`soft_weight: 0`" in text


def test_nobody_is_told_to_do_what_was_done() -> None:
    document = results({"mood": ("hurt", 0.744, 0.6), "tone": ("hurt", 0.744, 0.6)}, student=0.6)
    details = read_details(
        {"settings": {"teachers.recipe": "finetuned"}, "tasks": {"mood": {"soft_weight": 0.0}}}
    )
    text = "\n".join(advice(read_results(document), details))
    assert "hurt 'tone'" in text
    assert "mood" not in text
    assert "nothing to pass on" in text
    assert "recipe" in said(document)
    assert "recipe" not in text


@pytest.mark.parametrize(
    ("objective", "weak", "strong"),
    [
        ("average", "`soft_weight: 0`", "the task's `soft_weight`"),
        ("annealed", "`soft_weight: 0`", "`distill: {objective: average}`"),
        ("soft_only", "`teachers: false`", "`distill: {objective: average}`"),
    ],
)
def test_advice_is_what_the_objective_allows(objective: str, weak: str, strong: str) -> None:
    details = read_details({"settings": {"distill.objective": objective}})
    hurt = results({"mood": ("hurt", 0.744, 0.6)}, student=0.6)
    assert weak in "\n".join(advice(read_results(hurt), details))
    hurt = results({"mood": ("hurt", 0.6, 0.744)}, student=0.6, ensemble=0.75)
    assert strong in "\n".join(advice(read_results(hurt), details))


def test_a_task_that_better_teachers_hurt_asks_for_another_thing() -> None:
    text = said(results({"mood": ("hurt", 0.6, 0.744)}, student=0.6, ensemble=0.75))
    assert "although the teachers are better" in text
    assert "student: {training" in text


@pytest.mark.parametrize(("student", "expected"), [(0.70, True), (0.75, False)])
def test_teachers_without_a_gain_are_said_unless_the_student_gained(
    student: float, expected: bool
) -> None:
    text = said(results({"mood": ("no difference", 0.7, 0.7)}, ensemble=0.69, student=student))
    assert ("nothing to pass on" in text) == expected


@pytest.mark.parametrize(("ensemble", "expected"), [(0.75, True), (0.715, False)])
def test_a_student_that_lags_good_teachers_is_told_so(ensemble: float, expected: bool) -> None:
    text = said(results({"mood": ("no difference", 0.7, 0.7)}, ensemble=ensemble))
    assert ("below its ensembles" in text) == expected


@pytest.mark.parametrize(("seeds", "expected"), [(1, True), (3, False)])
def test_more_seeds_are_asked_for_where_one_does_not_tell(seeds: int, expected: bool) -> None:
    text = said(results({"mood": ("no difference", 0.7, 0.7)}, ensemble=0.71, seeds=seeds))
    assert ("seed: [0, 1, 2]" in text) == expected


def test_a_report_and_a_terminal_show_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = results({"m<b>ood": ("hurt", 0.7, 0.6)}, student=0.6)
    page = render_report(document, {"version": 1, "name": "toy"})
    assert "What to try next" in page
    assert "<code>soft_weight: 0</code>" in page
    assert "m<b>ood" not in page
    made = RunResult(folder=tmp_path, results=document, report=tmp_path / "report.html")
    show_result(made, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("try      Distilling hurt") for line in lines)
    fine = render_report(results({"mood": ("helped", 0.6, 0.7)}, student=0.75), {"version": 1})
    assert "What to try next" not in fine


def test_many_tasks_are_counted() -> None:
    text = said(results({f"t{i}": ("hurt", 0.7, 0.6) for i in range(5)}, student=0.6))
    assert "'t0', 't1', 't2' and 2 more" in text


def test_without_a_baseline_there_is_no_advice() -> None:
    document = results({"mood": ("hurt", 0.7, 0.6)})
    document["mean"] = {"student": 0.6}
    document["tasks"]["mood"] = {"scores": {"student": 0.6}, "verdict": None}
    assert said(document) == ""
