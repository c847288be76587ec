"""The report: offline, whole, escaped, equal to the results, and there for any run."""

from __future__ import annotations

import copy
import math
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from potstill.evaluation.charts import Axis, axis_around, node, scatter_panel, thin_out, tick_texts
from potstill.evaluation.confusion import confused_pairs, confusion_tables
from potstill.evaluation.number_words import duration, percent, short_count, size
from potstill.evaluation.report import MAX_KEPT, render_report, write_report
from potstill.evaluation.run_details import read_task

Document = dict[str, Any]

HOSTILE = (
    "<script>alert('x')</script><img src=https://evil.example/x onerror=alert(1)> \"&' \x00\x1b"
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags balance; gathers elements, attributes and the cells of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self.open):
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open) and "title" not in self.open:
            self.rows[-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    def ids(self) -> list[str]:
        return [value or "" for _, name, value in self.attributes if name == "id"]


def interval(delta: float, half: float = 0.011) -> dict[str, float]:
    return {"delta": delta, "low": delta - half, "high": delta + half}


def result(kind: str, metric: str, base: float) -> Document:
    return {
        "kind": kind,
        "metric": metric,
        "split": "test",
        "n": 1277,
        "scores": {
            "single": base,
            "multitask": base + 0.0123,
            "teacher_best": base + 0.0201,
            "ensemble": base + 0.0256,
            "student": base + 0.0345,
        },
        "student_vs_single": interval(0.0345),
        "student_vs_multitask": interval(0.0222),
        "student_vs_ensemble": interval(0.0089),
        "agreement_with_ensemble": 0.918,
        "verdict": "helped",
    }


def task_details(labels: list[str]) -> Document:
    n = len(labels)
    table = [[7 if truth == predicted else 1 for predicted in range(n)] for truth in range(n)]
    answer = {label: (0.9 if index == 0 else 0.1) for index, label in enumerate(labels)}
    return {
        "labels": labels,
        "n_train": 2490,
        "n_dev": 249,
        "n_test": 277,
        "n_pool": 1000,
        "covered": 0.98,
        "confusion": {"student": table, "ensemble": table, "multitask": table},
        "reliability": {
            "student": [{"confidence": 0.55, "accuracy": 0.6, "n": 20}],
            "ensemble": [{"confidence": 0.65, "accuracy": 0.6, "n": 0}],
        },
        "differences": [
            {
                "row": 12,
                "inputs": {"sentence": "A warm, funny film."},
                "truth": labels[0],
                "student": {"prediction": labels[0], "scores": answer},
                "ensemble": {"prediction": labels[-1], "scores": answer},
                "divergence": 0.83,
            }
        ],
        "distilling_stopped_at": {"epoch": 2, "student": 0.7, "teacher": 0.69},
        "warnings": ["3 texts were cut"],
    }


@pytest.fixture
def results() -> Document:
    return {
        "version": 1,
        "tasks": {
            "rte": result("classification", "accuracy", 0.6111)
            | {"calibration": {"student": {"nll": 0.6161, "ece": 0.0343}}},
            "intent": result("classification", "accuracy", 0.8222),
            "stsb": result("regression", "pearson", 0.7333),
        },
        "mean": {
            "single": 0.7222,
            "multitask": 0.7345,
            "ensemble": 0.7478,
            "student": 0.7567,
            "gain_kept": 1.669,
            "student_vs_multitask": interval(0.0222),
        },
        "cost": {
            "student_params": 22_713_216,
            "ensemble_params": 68_139_648,
            "train_seconds": {"teach": 63.1, "label": 4.0, "distill": 20.0},
        },
    }


@pytest.fixture
def details() -> Document:
    points = [[step, 1 / (1 + step)] for step in range(0, 400, 3)]
    return {
        "version": 1,
        "name": "glue-small",
        "created": "2026-11-21T10:00:00+00:00",
        "run_id": "0a1b2c",
        "hardware": {"cpu": "Xeon", "cores": 2, "torch": "2.13.0"},
        "settings": {"teachers.members": "3"},
        "tasks": {
            "rte": task_details(["entailment", "not_entailment"]),
            "intent": task_details([f"intent {index}" for index in range(77)]),
            "stsb": {
                "scatter": {"truth": [0, 2.5, 5], "student": [0.1, 2, 4], "ensemble": [0, 3, 5]},
                "differences": [
                    {
                        "row": 3,
                        "inputs": {"sentence1": "Ein Hund läuft.", "sentence2": "كلب يجري"},
                        "truth": 3.2,
                        "student": {"prediction": 2.71828},
                        "ensemble": {"prediction": 4.0},
                        "divergence": 0.256,
                    }
                ],
            },
        },
        "curves": [
            {"name": "student", "loss": points, "dev": {"rte": [[1, 0.6]]}},
            {"name": "multitask", "loss": points, "dev": {"rte": [[1, 0.5], [2, 0.6]]}},
            {"name": "teacher 0", "loss": [], "dev": {"rte": [[1, 0.5], [2, 0.6]]}},
        ],
        "cost": {
            "student": {"params": 22_713_216, "bytes": 90_900_000, "ms_per_text": 1.2},
            "ensemble": {"params": 68_139_648, "bytes": 272_700_000, "ms_per_text": 3.7},
        },
        "stages": [{"name": "teacher 0", "digest": "ab12", "seconds": 63.1, "reused": True}],
        "members": [{"task": "rte", "member": 0, "dev": 0.6172, "test": 0.6033}],
        "warnings": ["the disk is nearly full"],
    }


def test_the_leaderboard_of_the_page_holds_the_numbers_of_the_results(
    results: Document, details: Document
) -> None:
    page = Page(render_report(results, details))
    rows = {row[0].strip(): [cell.strip() for cell in row] for row in reversed(page.rows) if row}
    for name, entry in results["tasks"].items():
        scores = entry["scores"]
        shown = [f"{scores[s]:.3f}" for s in scores]
        assert rows[name][:3] == [name, entry["metric"], "1,277"]
        assert rows[name][3:8] == shown
        assert rows[name][8] == "+0.022 [+0.011, +0.033]"
        assert "helped" in rows[name][9]
    assert rows["mean"][3:8] == [
        f"{results['mean'][s]:.3f}" if s in results["mean"] else "—"
        for s in ("single", "multitask", "teacher_best", "ensemble", "student")
    ]
    assert ["student", "0.616", "0.034"] in page.rows  # calibration of rte


def test_every_section_is_there_and_every_link_has_its_end(
    results: Document, details: Document
) -> None:
    page = Page(render_report(results, details))
    links = {value for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert {link[1:] for link in links if link} <= set(page.ids())
    assert len(page.ids()) == len(set(page.ids()))
    sections = {"leaderboard", "differences", "cost", "training", "tasks", "stages", "settings"}
    assert sections | {"warnings"} <= set(page.ids())
    for words in (
        "keeps 167\N{NO-BREAK SPACE}% of the ensembles' gain",
        "helped on 3 of 3 tasks, hurt on none",
        "dev 0.617; test 0.603",
        "student (0.700) had passed its teacher (0.690)",
        "77 classes",
        "student says 2.718",
        "1 min 03 s",
        "the disk is nearly full",
        "90.9 MB",
        "ensemble ÷ student = 3.0",
    ):
        assert words.replace("\N{NO-BREAK SPACE}", " ") in page.words.replace("  ", " ")


def hostile(value: Any) -> Any:
    """The document with every text replaced, and every key of the user's."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [hostile(each) for each in value]
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()}
    return value


def test_hostile_text_is_shown_and_never_obeyed(results: Document, details: Document) -> None:
    names = {name: f"{index}{HOSTILE}" for index, name in enumerate(results["tasks"])}
    results = {**hostile(results), "version": 1}
    details = {**hostile(details), "version": 1}
    for document in (results, details):
        document["tasks"] = {names[name]: entry for name, entry in document["tasks"].items()}
    for entry in details["tasks"].values():
        for row in entry["differences"]:
            row["inputs"] = {HOSTILE: HOSTILE}
            row["student"]["scores"] = {HOSTILE: 0.5}
    details["settings"] = {HOSTILE: HOSTILE}
    details["curves"][0]["dev"] = {HOSTILE: [[1, 0.5]]}
    text = render_report(results, details)
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "alert('x')" in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text.replace("\n", ""))


def test_the_page_asks_for_nothing(results: Document, details: Document) -> None:
    text = render_report(results, details)
    page = Page(text)
    for _, name, value in page.attributes:
        if name in {"src", "href", "srcset", "data", "poster", "action", "xlink:href"}:
            assert (value or "").startswith("#")
        assert "url(" not in (value or "")
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttpRequest", text)
    policy = [value for _, name, value in page.attributes if name == "content"]
    assert any("default-src 'none'" in (value or "") for value in policy)


def test_equal_inputs_give_equal_bytes(
    results: Document, details: Document, tmp_path: Path
) -> None:
    write_report(results, details, tmp_path / "a.html")
    write_report(results, details, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    "drop",
    ["hardware", "settings", "tasks", "curves", "cost", "stages", "members", "warnings", "all"],
)
def test_missing_details_leave_only_their_section_out(
    results: Document, details: Document, drop: str
) -> None:
    keep = {"version", "name"} if drop == "all" else set(details) - {drop}
    page = Page(render_report(results, {key: details[key] for key in keep}))
    assert {"leaderboard", "differences", "cost", "tasks"} <= set(page.ids())
    assert "0.646" in page.words
    if drop == "all":
        assert not {"training", "settings", "warnings"} & set(page.ids())


def test_null_details_are_as_good_as_missing_ones(results: Document, details: Document) -> None:
    bare = {"version": 1, "name": "glue-small"}
    nulls = dict.fromkeys(details) | bare
    assert render_report(results, nulls) == render_report(results, bare)
    task = dict.fromkeys(details["tasks"]["rte"])
    assert render_report(results, bare | {"tasks": {"rte": task}}) == render_report(results, bare)


def test_without_baselines_there_is_no_verdict_and_no_figure(
    results: Document, details: Document
) -> None:
    for entry in results["tasks"].values():
        entry["scores"] = {"student": entry["scores"]["student"]}
        for key in [key for key in entry if key.startswith("student_vs") or "agreement" in key]:
            del entry[key]
        entry["verdict"] = None
    results["mean"] = {"student": 0.7567, "gain_kept": None}
    page = Page(render_report(results, details))
    assert "differences" not in page.ids()
    assert "scores 0.757 on the mean." in page.words
    assert "there is no verdict on distilling" in page.words


def test_seeds_are_shown_one_by_one(results: Document, details: Document) -> None:
    for entry in results["tasks"].values():
        entry["per_seed"] = [
            {"seed": seed, "scores": {"student": 0.5 + seed / 8, "ensemble": 0.4321}}
            for seed in (0, 1, 2)
        ]
    results["student_seed"] = 1
    page = Page(render_report(results, details))
    assert ["1 (kept)", "—", "—", "—", "0.432", "0.625"] in page.rows
    assert "means over 3 seeds" in page.words


def test_few_rows_show_no_difference(results: Document, details: Document) -> None:
    """As their verdict says, whatever their interval."""
    assert Counter(re.findall(r'class="forest (\w+)"', render_report(results, details)))["up"] == 7
    few = copy.deepcopy(results)
    few["tasks"]["rte"] |= {"n": 9, "verdict": "no difference"}
    marks = Counter(re.findall(r'class="forest (\w+)"', render_report(few, details)))
    assert marks["up"] == 4  # of the other two tasks; the mean holds the one of few rows


def test_a_run_of_nothing_still_has_a_page(details: Document) -> None:
    empty = {"version": 1, "tasks": {}, "mean": {}, "cost": {}}
    assert "One student has no score yet." in Page(render_report(empty, details)).words


@pytest.mark.parametrize("n", [1, 3, 4, 40])
def test_tasks_open_by_themselves_only_where_they_are_few(results: Document, n: int) -> None:
    entry = results["tasks"]["rte"]
    results["tasks"] = {f"task {index}": entry for index in range(n)}
    text = render_report(results, {"version": 1, "name": "many"})
    page = Page(text)
    assert text.count('<details class="task" open>') == (n if n <= 3 else 0)
    assert sum(name.startswith("task-") for name in page.ids()) == n


def test_long_texts_are_cut_and_kept(results: Document, details: Document) -> None:
    text = " ".join(f"word{index}" for index in range(400))
    inputs = details["tasks"]["rte"]["differences"][0]["inputs"]
    inputs |= {"long": text, "huge": "x" * (MAX_KEPT + 5000), "broken": "\ud83d"}
    html = render_report(results, details)
    page = Page(html)
    assert text in page.words
    assert "(5,000 more letters)" in page.words
    assert html.count('class="long"') == 2
    html.encode()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 600])
def test_outputs_without_a_blank_stay_in_their_columns(
    results: Document, details: Document, tmp_path: Path, width: int
) -> None:
    row = details["tasks"]["rte"]["differences"][0]
    row["truth"] = row["student"]["prediction"] = row["ensemble"]["prediction"] = "Donau" * 200
    measure = (
        "<script>document.querySelectorAll('details').forEach(part => part.open = true);"
        "document.title = [...document.querySelectorAll('.row-head, .answer p')]"
        ".filter(part => part.scrollWidth > part.clientWidth).length + ' too wide';</script>"
    )
    page = tmp_path / "report.html"
    html = render_report(results, details).replace("Content-Security-Policy", "refresh-not")
    page.write_text(html + measure, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", f"--window-size={width},900", str(page)]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout
    assert "<title>0 too wide</title>" in seen


def test_many_classes_become_pairs_and_few_a_table() -> None:
    table = [{0: 5, 1: 1}, {0: 2, 1: 9}]
    (found,) = confusion_tables({"student": table}, ["a", "b"])
    assert (found.n_right, found.n) == (14, 17)
    assert [[cell.n for cell in cells] for _, cells in found.rows] == [[5, 1], [2, 9]]
    assert confused_pairs({"student": table}, ["a", "b"]) == []
    big = [{row: 20} for row in range(13)]
    big[3][5], big[2][1] = 7, 4
    pairs = confused_pairs({"student": big}, ["only one name"])
    assert [(pair.truth, pair.predicted, pair.counts) for pair in pairs] == [
        ("class 3", "class 5", {"student": 7}),
        ("class 2", "class 1", {"student": 4}),
    ]
    assert confusion_tables({"student": big}, []) == []


def test_a_confusion_table_is_read_with_its_zeros_or_without() -> None:
    dense = read_task({"confusion": {"student": [[5, 0], [2, 9]]}}).confusion
    sparse = read_task({"confusion": {"student": [{"0": 5}, {"0": 2, "1": 9}]}}).confusion
    assert dense == sparse == {"student": ({0: 5}, {0: 2, 1: 9})}


def test_values_that_are_all_one_large_number_are_drawn() -> None:
    assert "circle" in scatter_panel([1e17] * 3, [1e17] * 3, (1e17, 1e17), "student", "values")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.07, 0.04), (1e-9, 3e-5), (0, 812_345)])
def test_ticks_are_round_few_and_within(low: float, high: float) -> None:
    ticks = Axis(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert len(set(tick_texts(ticks))) == len(ticks)


def test_ticks_of_tiny_scales_share_an_exponent() -> None:
    assert tick_texts([0, 5e-5, 1e-4, 1.5e-4]) == [
        "0",
        "0.5e\N{MINUS SIGN}4",
        "1.0e\N{MINUS SIGN}4",
        "1.5e\N{MINUS SIGN}4",
    ]
    assert tick_texts([-2e-6, 2e-6], sign=True) == [
        "\N{MINUS SIGN}2e\N{MINUS SIGN}6",
        "+2e\N{MINUS SIGN}6",
    ]


def test_an_amount_is_shown_in_full_and_is_never_right(results: Document) -> None:
    row = {
        "row": 8,
        "unit": "line",
        "inputs": {"text": "a house"},
        "truth": 297680.0,
        "student": {"prediction": 297725.0},
        "ensemble": {"prediction": 297680.0},
    }
    rte = results["tasks"]["rte"]
    page = render_report(
        {**results, "tasks": {"rte": rte}}, {"tasks": {"rte": {"differences": [row]}}}
    )
    assert "line 8" in page
    assert "297725" in page
    assert 'title="right"' not in page
    row |= {"truth": "b", "student": {"prediction": "a"}, "ensemble": {"prediction": "b"}}
    page = render_report(
        {**results, "tasks": {"rte": rte}}, {"tasks": {"rte": {"differences": [row]}}}
    )
    assert page.count('title="right"') == 1


def test_a_long_answer_is_folded(results: Document) -> None:
    text = "word " * 20_000
    row = {
        "row": 8,
        "truth": text,
        "student": {"prediction": text},
        "ensemble": {"prediction": "b"},
    }
    rte = results["tasks"]["rte"]
    page = render_report(
        {**results, "tasks": {"rte": rte}}, {"tasks": {"rte": {"differences": [row]}}}
    )
    assert len(page) < 200_000
    assert page.count('<details class="long">') == 2


def test_a_run_without_teachers_says_so(results: Document) -> None:
    level = {"delta": 0.0, "low": 0.0, "high": 0.0}
    for entry in results["tasks"].values():
        del entry["scores"]["ensemble"]
        entry |= {"student_vs_multitask": level, "verdict": "no difference"}
    results["mean"] |= {"student_vs_multitask": level}
    results["mean"].pop("ensemble")
    results["gain_kept"] = None
    page = Page(render_report(results, {}))
    assert "No task has teachers: the student is the multi-task network itself." in page.words
    assert "No difference at all" in page.words
    assert "more test rows" not in page.words


def test_scales_hold_what_they_are_given_even_if_it_is_one_number_or_none() -> None:
    for values in ([], [0.5], [0.5, 0.5], [-3.0, 8.0], [1e12]):
        axis = axis_around(values, 0, 100)
        assert all(0 < axis.at(value) < 100 for value in values)


def test_thinned_curves_keep_their_mean_and_order() -> None:
    points = tuple((float(x), math.sin(x)) for x in range(1500))
    thin = thin_out(points, most=150)
    assert len(thin) == 150
    assert [x for x, _ in thin] == sorted(x for x, _ in thin)
    assert sum(y for _, y in thin) / 150 == pytest.approx(sum(y for _, y in points) / 1500)


def test_nodes_escape_texts_and_attributes() -> None:
    assert str(node("a", "<b>", title='"')) == '<a title="&#34;">&lt;b&gt;</a>'


def test_number_words() -> None:
    assert [short_count(n) for n in (0, 999, 1000, 22_713_216, 1.5e9)] == [
        *("0", "999", "1.0 k", "22.7 M", "1.5 B"),
    ]
    assert [size(n) for n in (12, 90_900_000)] == ["12 bytes", "90.9 MB"]
    assert [duration(s) for s in (None, 0.04, 59.97, 3600)] == [
        *("—", "0.0 s", "1 min 00 s", "1 h 00 min"),
    ]
    assert [percent(s) for s in (0, 0.00001, 0.003, 0.98, 0.998, 0.99999, 1)] == [
        *("0 %", "under 0.1 %", "0.3 %", "98 %", "99.8 %", "over 99.9 %", "100 %"),
    ]
