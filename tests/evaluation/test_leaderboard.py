"""The leaderboard holds every number of the results, at any width, and no name can break it."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from potstill.core.errors import ArtefactError
from potstill.evaluation.leaderboard import leaderboard, leaderboard_markdown
from potstill.evaluation.number_words import MINUS
from potstill.evaluation.report_words import headline

Document = dict[str, Any]


def interval(delta: float, half: float) -> dict[str, float]:
    return {"delta": delta, "low": delta - half, "high": delta + half}


def task(verdict: str | None, half: float, **scores: float) -> Document:
    return {
        "kind": "classification",
        "metric": "accuracy",
        "split": "test",
        "n": 1277,
        "scores": scores,
        "student_vs_multitask": interval(scores["student"] - scores["multitask"], half),
        "verdict": verdict,
    }


@pytest.fixture
def results() -> Document:
    return {
        "version": 1,
        "tasks": {
            "rte": task(
                "helped", 0.01, multitask=0.601, teacher_best=0.611, ensemble=0.622, student=0.633
            ),
            "mrpc": task(
                "no difference", 0.05, single=0.7, multitask=0.744, ensemble=0.755, student=0.7551
            ),
        },
        "mean": {"multitask": 0.6726, "ensemble": 0.6886, "student": 0.694, "gain_kept": 1.34},
        "cost": {"student_params": 22_713_216, "ensemble_params": 136_279_296},
    }


def printed(results: Document, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(leaderboard(results))
    return out.getvalue()


@pytest.mark.parametrize("ensemble", [0.66, 0.6886, 0.6727])
def test_a_terminal_gets_one_kind_of_minus(results: Document, ensemble: float) -> None:
    results["mean"] |= {"ensemble": ensemble, "teacher_best": 0.69, "gain_kept": None}
    for text in (printed(results, 120), leaderboard_markdown(results)):
        assert "gain kept" in text.lower()
        assert MINUS not in text


def test_wide_form_holds_every_number_in_the_line_of_its_task(results: Document) -> None:
    lines = printed(results, 120).splitlines()
    rte = next(line for line in lines if "rte" in line)
    assert rte.split() == [
        *("rte", "accuracy", "1,277", "—", "0.601", "0.611", "0.622", "0.633"),
        *("+0.032", "[+0.022,+0.042]", "helped"),
    ]
    mean = next(line for line in lines if "mean" in line)
    assert mean.split() == ["mean", "—", "0.673", "—", "0.689", "0.694", "+0.021"]


@pytest.mark.parametrize("width", [40, 46, 50, 58, 64, 72, 76, 80, 100, 120, 200])
def test_every_width_keeps_student_verdict_and_interval(results: Document, width: int) -> None:
    text = printed(results, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for needed in ("rte", "mrpc", "0.633", "0.755", "helped", "no difference", "0.694"):
        assert needed in text
    assert "[+0.022,+0.042]" in text
    assert ("no room here" in text) == ("0.601" not in text or "0.611" not in text)


def test_what_looks_equal_is_equally_best(results: Document) -> None:
    markdown = leaderboard_markdown(results)
    line = next(line for line in markdown.splitlines() if line.startswith("| mrpc"))
    assert line.count("**0.755**") == 2


def test_markdown_has_one_line_for_each_task_and_the_same_number_of_cells(
    results: Document,
) -> None:
    lines = leaderboard_markdown(results).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 2 + 1
    assert {line.count("|") for line in table} == {11}
    assert lines[-3] == "Gain kept: 134 % of the ensembles' gain over multi-task training (+0.016)."
    assert lines[-1] == "One seed: intervals cover the choice of rows, not the luck of training."


def test_hostile_names_stay_in_their_cell(results: Document) -> None:
    results["tasks"] = {"a|b\n<b>[red]\x1b[31m`": results["tasks"]["rte"]}
    markdown = leaderboard_markdown(results)
    line = next(line for line in markdown.splitlines() if line.startswith("| a"))
    assert line.startswith("| a\\|b\N{REPLACEMENT CHARACTER}\\<b\\>\\[red\\]")
    text = printed(results, 150)
    assert "\x1b" not in text
    assert "[red]" in text


def test_finetuned_student_has_a_column_only_where_it_ran(results: Document) -> None:
    assert "fine-tuned" not in leaderboard_markdown(results)
    results["tasks"]["rte"]["scores"]["student_finetuned"] = 0.64
    assert "student, fine-tuned" in leaderboard_markdown(results)
    assert "0.640" in printed(results, 140)


def test_absent_baselines_are_dashes_and_claim_nothing(results: Document) -> None:
    for entry in results["tasks"].values():
        entry["scores"] = {"student": entry["scores"]["student"]}
        del entry["student_vs_multitask"]
        entry["verdict"] = None
    results["mean"] = {"student": 0.694, "gain_kept": None}
    line = next(x for x in leaderboard_markdown(results).splitlines() if x.startswith("| rte"))
    assert line == "| rte | accuracy | 1,277 | — | — | — | — | 0.633 | — | — |"
    assert "gain" not in printed(results, 120).lower()


def test_another_version_is_refused(results: Document) -> None:
    with pytest.raises(ArtefactError, match="version 2"):
        leaderboard({**results, "version": 2})


def test_headline_says_what_was_kept(results: Document) -> None:
    assert headline(results) == (
        "One student of 22.7 M parameters keeps 134 % of the ensembles' gain over multi-task "
        "training; helped on 1 of 2 tasks, hurt on none."
    )


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        ({"multitask": 0.7, "ensemble": 0.69, "student": 0.71, "gain_kept": None}, "did not gain"),
        (
            {"multitask": 0.7, "ensemble": 0.71, "student": 0.69, "gain_kept": -1.0},
            "keeps none of the ensembles' gain: it scores 0.690 on the mean, 0.010 below",
        ),
        (
            {"multitask": 0.7, "ensemble": 0.701, "student": 0.71, "gain_kept": 10.0},
            "gains +0.010 on the mean over multi-task training, more than twice",
        ),
        ({"ensemble": 0.7, "student": 0.69, "gain_kept": None}, "0.010 below the ensembles"),
        ({"multitask": 0.7, "student": 0.7, "gain_kept": None}, "level with multi-task"),
        ({"multitask": 0.7, "ensemble": 0.72, "student": 0.7, "gain_kept": 0.0}, "keeps none of"),
    ],
)
def test_headline_is_honest(results: Document, mean: dict[str, float], said: str) -> None:
    results["mean"] = mean
    assert said in headline(results)


def test_no_share_is_claimed_of_ensembles_below_their_best_members(results: Document) -> None:
    for entry in results["tasks"].values():
        entry["scores"]["teacher_best"] = entry["scores"]["ensemble"] + 0.01
    results["mean"] |= {"teacher_best": results["mean"]["ensemble"] + 0.01, "gain_kept": None}
    assert "did not beat their best members" in headline(results)
    assert "did not beat their best members" in leaderboard_markdown(results)


def test_no_percent_of_a_gain_near_nothing(results: Document) -> None:
    results["mean"] |= {"multitask": 0.7, "ensemble": 0.701, "student": 0.71, "gain_kept": 10.0}
    said = leaderboard_markdown(results).rstrip().splitlines()
    assert (
        "Gain kept: more than twice the ensembles' gain over multi-task training (+0.001)." in said
    )
    results["mean"] |= {"student": 0.68, "gain_kept": -20.0}
    said = leaderboard_markdown(results).rstrip().splitlines()
    assert (
        "Gain kept: none of the ensembles' gain over multi-task training "
        "(+0.001; the student is -0.020)."
    ) in said


def test_losses_are_named(results: Document) -> None:
    results["tasks"]["mrpc"]["verdict"] = "hurt"
    assert headline(results).endswith("helped on 1 of 2 tasks, hurt on 1: mrpc.")


def test_results_are_read_not_changed(results: Document) -> None:
    before = copy.deepcopy(results)
    leaderboard(results)
    leaderboard_markdown(results)
    assert results == before


def test_means_of_some_tasks_say_so(results: Document) -> None:
    assert "means cover" not in printed(results, 120)
    results["mean"]["tasks"] = ["rte"]
    assert "means cover 1 of 2 tasks: rte" in printed(results, 120)
    assert "Means cover 1 of 2 tasks: rte." in leaderboard_markdown(results)
