"""A task kind that another package brings: the example of the documentation, used as installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toys import make_base, toy_rows, write_rows

TWIN = (
    "from potstill.kinds import Key, Regression\nclass Ordinal(Regression):\n"
    "    del_ = None\n    keys = (Key(name='text', form='columns', use='input', meaning='x'),"
    " Key(name='label', form='column', use='label', meaning='x'))\n    metric_names = None\n"
)
EXAMPLE = Path(__file__).parents[2] / "examples" / "kind"


def install(site: Path, *, points: str, module: str) -> None:
    """What pip would leave in a folder of packages."""
    info = site / "potstill_ordinal-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: potstill-ordinal\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text(f"[potstill.kinds]\n{points}\n")
    (site / "potstill_ordinal.py").write_text(module)


def call(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", "potstill", *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    rows = [
        {"text": row["text"], "stars": 1 + round(float(str(row["score"])))}
        for row in toy_rows("regression", 120)
    ]
    write_rows(tmp_path / "train.jsonl", rows[:80])
    write_rows(tmp_path / "dev.jsonl", rows[80:])
    file = tmp_path / "run.yaml"
    file.write_text(
        f"name: stars\nbase: {make_base(tmp_path / 'base')}\nprecision: fp32\n"
        "training: {epochs: 8, learning_rate: 5.0e-3, batch: 16}\nteachers: {members: 2}\n"
        "tasks:\n  stars: {kind: ordinal, train: train.jsonl, dev: dev.jsonl, text: text,"
        " label: stars, rows: 60, pool: rest}\n"
    )
    return file


@pytest.mark.timeout(300)  # a training and an environment: two minutes on a busy machine
def test_the_example_runs_like_any_other_kind(tmp_path: Path, run_file: Path) -> None:
    site = tmp_path / "site"
    module = (EXAMPLE / "potstill_ordinal.py").read_text()
    install(site, points="ordinal = potstill_ordinal:Ordinal", module=module)
    looked = call(site, "check", str(run_file))
    assert looked.returncode == 0, looked.stderr
    ran = call(site, "run", str(run_file), "--json", "--quiet")
    assert ran.returncode == 0, ran.stderr
    folder = next((tmp_path / "runs").glob("stars-*"))
    results = json.loads((folder / "results.json").read_text())["tasks"]["stars"]
    assert (results["kind"], results["metric"], results["n"]) == ("ordinal", "spearman", 40)
    assert set(results["scores"]) >= {"single", "multitask", "ensemble", "student"}
    assert results["scores"]["student"] > 0.3  # a toy, but no noise
    assert (folder / "report.html").is_file()
    out = tmp_path / "out.jsonl"
    said = call(site, "predict", str(folder), str(tmp_path / "dev.jsonl"), "--out", str(out))
    assert said.returncode == 0, said.stderr
    answers = [json.loads(line)["tasks"]["stars"] for line in out.read_text().splitlines()]
    assert len(answers) == 40
    assert {answer["prediction"] for answer in answers} <= {"1", "2", "3", "4", "5", "6"}
    # Without the package the student is told apart from a damaged one.
    alone = call(tmp_path / "nowhere", "predict", str(folder), str(tmp_path / "dev.jsonl"))
    assert alone.returncode != 0
    assert "unknown kind 'ordinal'" in alone.stderr


@pytest.mark.parametrize(
    ("points", "module", "reason"),
    [
        ("ordinal = potstill_ordinal:Ordinal", "import nothing_like_this", "nothing_like_this"),
        ("ordinal = potstill_ordinal:Ordinal", "Ordinal = 3", "no subclass"),
        ("ordinal = potstill_ordinal:Other", "", "Other"),
        ("ordinal = potstill_ordinal:Ordinal", TWIN + "    name = 'ordinal'\n", "metric_names"),
        (
            "ordinal = potstill_ordinal:Ordinal",
            TWIN + "    name, metric_names = 'ordinal', ('mrr',)\n"
            "    keys = (Key(name='rows', form='column', use='input', meaning='x'),)\n",
            "'rows' is one that every task has",
        ),
        (
            "ordinal = potstill_ordinal:Ordinal",
            "from potstill.kinds import Kind\nclass Ordinal(Kind): name = 'ordinal'\n",
            "lacks decode",
        ),
        (
            "ordinal = potstill_ordinal:Ordinal",
            "from potstill.kinds import Generation\nclass Ordinal(Generation):\n"
            "    name = 'ordinal'\n    keys = Generation.keys[:2]\n",
            "no key `token` or `language`",
        ),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(
    tmp_path: Path, run_file: Path, points: str, module: str, reason: str
) -> None:
    site = tmp_path / "site"
    install(site, points=points, module=module)
    asked = call(site, "check", str(run_file))
    assert asked.returncode == 2
    assert reason in asked.stderr.replace("\n", " ")
    assert call(site, "--version").returncode == 0


LISTS = (
    "from potstill.kinds import Key, Ranking\nclass Lists(Ranking):\n    name = 'lists'\n"
    "    keys = (Key(name='asked', form='column', use='input', meaning='x'),"
    " Key(name='found', form='column', use='input', meaning='x'),"
    " Key(name='worth', form='column', use='label', meaning='x'))\n"
)


@pytest.mark.timeout(300)
def test_a_kind_of_lists_groups_by_its_first_column(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, points="lists = potstill_ordinal:Lists", module=LISTS)
    names = {"query": "asked", "candidate": "found", "relevance": "worth"}
    rows = [{names[k]: v for k, v in row.items()} for row in toy_rows("ranking", 24)]
    write_rows(tmp_path / "train.jsonl", rows)
    file = tmp_path / "run.yaml"
    file.write_text(
        f"name: lists\nbase: {make_base(tmp_path / 'base')}\nprecision: fp32\n"
        "training: {epochs: 1, batch: 8}\nteachers: {members: 1}\n"
        "tasks:\n  a: {kind: lists, train: train.jsonl, asked: asked, found: found, worth: worth}\n"
    )
    ran = call(site, "run", str(file), "--json", "--quiet")
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)["tasks"]["a"]
    assert (results["kind"], results["metric"]) == ("lists", "mrr")


def test_no_package_takes_the_name_of_a_known_kind(tmp_path: Path, run_file: Path) -> None:
    site = tmp_path / "site"
    module = (EXAMPLE / "potstill_ordinal.py").read_text()
    install(site, points="ranking = potstill_ordinal:Ordinal", module=module)
    code = "from potstill.kinds import BROKEN, KINDS; print(KINDS['ranking'].__module__, BROKEN)"
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "potstill.kinds.ranking" in done.stdout
    assert "name of another kind" in done.stdout
