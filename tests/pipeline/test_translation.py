"""Runs whose tasks say texts, from the run file to the report; and what is refused."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import potstill
from potstill import cli
from potstill.config import load_run_file
from potstill.core.errors import (
    BaseModelError,
    DataError,
    MismatchError,
    PotstillError,
    RunFileError,
)
from potstill.core.progress import Progress
from potstill.metrics.generation import BLEU, signature
from potstill.pipeline.looking import look
from potstill.training.network import load_network
from potstill.training.sequence_network import SequenceNetwork
from tests.pipeline.contract import check_results
from tests.pipeline.toy_runs import (
    Keys,
    made_stages,
    stage_names,
    toy_task,
    weight_digests,
    with_key,
    write_run,
)
from tests.sequences import Rows, pair_rows, sequence_base
from tests.toys import write_rows

LANGUAGES = ("de", "fr")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def good(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def direction(language: str, *, n: int = 32, seed: int = 0, kind: str = "translation") -> Keys:
    """A task from English with ``n`` rows to learn from and 12 rows each of dev and test."""
    train, dev, test = (pair_rows(k, seed + i) for i, k in enumerate((n, 12, 12)))
    return {
        "kind": kind,
        "source": "en",
        "target": language,
        "train": [{"en": r["en"], language: r[language]} for r in train],
        "dev": [{"en": r["en"], language: r[language]} for r in dev],
        "test": [{"en": r["en"], language: r[language]} for r in test],
    }


def small_run(output: Path, tasks: Keys | None = None) -> Keys:
    """The smallest run of two directions with all stages."""
    if tasks is None:
        tasks = {"de": direction("de"), "fr": direction("fr", seed=5)}
    return {
        "name": "toy",
        "output": str(output),
        "precision": "fp32",
        "device": "cpu",
        "tasks": copy.deepcopy(tasks),
        "architecture": {
            "width": 16,
            "layers": 2,
            "heads": 2,
            "feed_forward": 32,
            "vocabulary": 100,
        },
        "training": {"epochs": 2, "batch": 16, "max_tokens": 32, "learning_rate": 1e-2},
        "decoding": {"beams": 2},
        "student": {"layers": 1},
        "evaluate": {"resamples": 200, "match_steps": False, "baselines": ["multitask"]},
    }


def one_direction(output: Path) -> Keys:
    run = small_run(output, {"de": direction("de")})
    run["evaluate"]["baselines"] = []
    return run


def pool_of(n: int, seed: int = 40) -> Rows:
    return [{"en": row["en"]} for row in pair_rows(n, seed)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run file, its data and its finished run."""
    folder = tmp_path_factory.mktemp("translation")
    run = small_run(folder / "runs")
    run["evaluate"]["baselines"] = ["single", "multitask"]
    file = write_run(folder, run)
    good("check", file)
    good("run", file, "--quiet", "--jobs", 1)
    return folder


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    shutil.copytree(place, tmp_path / "copy")
    file = tmp_path / "copy" / "run.yaml"
    run = read(file)
    run["output"] = str(tmp_path / "copy" / "runs")
    file.write_text(json.dumps(run), encoding="utf-8")
    return tmp_path / "copy"


def run_folder_of(place: Path) -> Path:
    return next((place / "runs").glob("toy-*"))


def network_of(folder: Path) -> SequenceNetwork:
    network = load_network(folder)
    assert isinstance(network, SequenceNetwork)
    return network


def kinds_made(before: set[str], after: set[str]) -> list[str]:
    """What kinds of stages are new, each as often as it is."""
    return sorted(name.split("-")[0] for name in after - before)


# -- what it leaves -----------------------------------------------------------------------------


def test_results_are_those_of_the_contract(place: Path) -> None:
    results = read(run_folder_of(place) / "results.json")
    check_results(results)
    assert tuple(results["tasks"]) == LANGUAGES
    for task in results["tasks"].values():
        assert (task["kind"], task["metric"], task["split"], task["n"]) == (
            *("translation", "bleu", "test"),
            12,
        )
        systems = {"single", "multitask", "teacher_best", "ensemble", "student"}
        assert set(task["scores"]) == systems
        # One member alone is the ensemble.
        assert task["scores"]["ensemble"] == task["scores"]["teacher_best"]
    assert results["cost"]["student_params"] < results["cost"]["ensemble_params"]


def test_the_report_names_the_metrics_signatures(place: Path) -> None:
    page = (run_folder_of(place) / "report.html").read_text(encoding="utf-8")
    for name in ("bleu", "chrf"):
        assert signature(name).split("|version")[0] in page
    assert re.findall(r"(?:src|href)\s*=\s*[\"'](?!#|data:)", page) == []
    details = read(run_folder_of(place) / "details.json")["tasks"]["de"]
    assert details["covered"] == 1.0
    one = details["differences"][0]
    assert set(one["inputs"]) == {"en"}
    assert {"truth", "student", "ensemble"} <= set(one)
    card = (run_folder_of(place) / "student" / "README.md").read_text(encoding="utf-8")
    assert "**de** (translation): reads `en`" in card
    assert "Sources and targets over 32 pieces lose their end" in card


def test_networks_know_how_long_their_targets_were(place: Path) -> None:
    run = read(place / "run.yaml")
    stages = place / "runs" / "stages"
    student = network_of(run_folder_of(place) / "student")
    targets = [
        str(row[language])
        for language, task in run["tasks"].items()
        for row in map(json.loads, (place / str(task["train"])).read_text("utf-8").splitlines())
    ]
    assert student.decoding.longest <= student.tokenise_targets(targets).lengths.max()
    assert all(
        0 < network_of(path.parent).decoding.longest <= student.max_tokens
        for path in stages.glob("*/student.json")
    )


def test_every_stage_stands_once(place: Path) -> None:
    names = stage_names(place / "runs")
    made = kinds_made(set(), names)
    # A vocabulary, a base; teachers, singles and baseline; a student.
    assert made.count("vocabulary") == made.count("base") == made.count("student") == 1
    assert made.count("targets") == len(LANGUAGES)
    assert made.count("network") == 2 * len(LANGUAGES) + 1
    folder = run_folder_of(place)
    assert sorted(p.name for p in (folder / "student").rglob("*") if p.is_file()) == sorted(
        [
            *("student.json", "training.json", "README.md", "manifest.json"),
            *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        ]
    )


def test_teachers_and_student_have_one_vocabulary(place: Path) -> None:
    stages = place / "runs" / "stages"
    networks = [network_of(path.parent) for path in stages.glob("*/student.json")]
    assert len({network.tokenizer.digest for network in networks}) == 1
    assert networks[0].tokenizer.languages == ["<2de>", "<2fr>"]
    assert network_of(run_folder_of(place) / "student").model.config.encoder_layers == 1


def test_the_student_answers_as_it_was_scored(place: Path, tmp_path: Path) -> None:
    folder = run_folder_of(place)
    rows = read(place / "run.yaml")["tasks"]["de"]
    test = [json.loads(line) for line in (place / rows["test"]).read_text().splitlines()]
    student = potstill.load(folder, device="cpu", precision="fp32")
    answers = [one["tasks"]["de"]["prediction"] for one in student.predict(test, ["de"])]
    truth = np.array([row["de"] for row in test], object)
    score = read(folder / "results.json")["tasks"]["de"]["scores"]["student"]
    assert BLEU.score(truth, np.array(answers, object)) == pytest.approx(score, abs=1e-6)
    assert set(student.predict({"en": "the old cat"})) == set(LANGUAGES)
    file = write_rows(tmp_path / "in.jsonl", test)
    good("predict", folder, file, "--out", tmp_path / "out.jsonl", "--precision", "fp32", "--quiet")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["tasks"]["de"]["prediction"] for line in lines] == answers


# -- what is found again ------------------------------------------------------------------------


def test_the_same_run_again_does_nothing(copied: Path) -> None:
    before = stage_names(copied / "runs")
    weights = weight_digests(copied / "runs" / "stages")
    for file in (copied / "run.yaml", run_folder_of(copied) / "run.yaml"):
        good("run", file, "--quiet", "--jobs", 1)
        assert stage_names(copied / "runs") == before
        assert weight_digests(copied / "runs" / "stages") == weights


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        # A student learns anew and is scored; everything else stands.
        (["distill.soft_weight=0.9"], ["student", *["texts"] * 2]),
        (["distill.temperature=2"], ["student", *["texts"] * 2]),
        (["distill.objective=annealed"], ["student", *["texts"] * 2]),
        # Teachers say the train rows, one stage a direction.
        (["distill.objective=sequence"], ["student", *["texts"] * 4]),
        # A resample count is no matter of any stage.
        (["evaluate.resamples=300"], []),
    ],
)
def test_what_a_change_of_distilling_makes_anew(
    copied: Path, changes: list[str], made: list[str]
) -> None:
    before = stage_names(copied / "runs")
    potstill.run(copied / "run.yaml", overrides=changes)
    assert kinds_made(before, stage_names(copied / "runs")) == made


def test_another_decoding_trains_nothing_anew(copied: Path) -> None:
    """Dev texts are said greedily while networks learn, so beams are a matter of scoring."""
    before = stage_names(copied / "runs")
    result = potstill.run(copied / "run.yaml", overrides=["decoding.beams=3"])
    made = kinds_made(before, stage_names(copied / "runs"))
    assert "vocabulary" not in made
    assert "base" not in made
    assert made.count("network") in (0, 5)
    facts = read(result.folder / "student" / "student.json")
    assert facts["decoding"]["beams"] == 3


def test_another_architecture_keeps_the_vocabulary(copied: Path) -> None:
    before = stage_names(copied / "runs")
    potstill.run(
        copied / "run.yaml",
        overrides=["student.architecture.feed_forward=24", "evaluate.baselines=[]"],
    )
    made = kinds_made(before, stage_names(copied / "runs"))
    assert made == ["base", "student", "texts", "texts"]  # the teachers keep theirs
    before = stage_names(copied / "runs")
    potstill.run(
        copied / "run.yaml", overrides=["architecture.vocabulary=90", "evaluate.baselines=[]"]
    )
    made = kinds_made(before, stage_names(copied / "runs"))
    assert {"vocabulary", "base", "network", "targets", "student"} <= set(made)


# -- choices ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_ends_in_the_same_numbers_with_workers(place: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path / "runs")
    run["evaluate"]["baselines"] = ["single", "multitask"]
    result = potstill.run(run, jobs=2)
    assert result.results["tasks"] == read(run_folder_of(place) / "results.json")["tasks"]


@pytest.mark.parametrize("objective", ["average", "sequence"])
def test_a_pool_is_said_by_the_teachers(tmp_path: Path, objective: str) -> None:
    run = with_key(one_direction(tmp_path), "tasks.de.pool", pool_of(10))
    run["distill"] = {"objective": objective, "pool_weight": 0.5}
    result = potstill.run(run)
    check_results(result.results)
    cover = read(result.folder / "student" / "training.json")["cover"]["de"]
    n_train = 32 if objective == "sequence" else 0
    assert cover["train_rows"] == 32
    assert cover["pool_rows"] > 5
    (said,) = [
        texts
        for stage in (tmp_path / "stages").glob("texts-*")
        if len(texts := read(stage / "texts.json")["texts"]) == n_train + cover["pool_rows"]
    ]
    # To say nothing is no target.
    assert cover["train_covered"] == (sum(map(bool, said[:32])) if n_train else 32)
    assert cover["pool_covered"] == sum(map(bool, said[n_train:]))


def test_the_sources_of_other_tasks_are_a_pool(tmp_path: Path) -> None:
    run = with_key(small_run(tmp_path), "distill.pool", "others")
    run["evaluate"]["baselines"] = []
    result = potstill.run(run)
    check_results(result.results)
    for cover in read(result.folder / "student" / "training.json")["cover"].values():
        assert cover["pool_rows"] > 10


def test_cross_fitted_members(tmp_path: Path) -> None:
    run = one_direction(tmp_path)
    run["teachers"] = {"members": 2, "cross_fit": True}
    run["tasks"]["de"]["pool"] = pool_of(6)
    result = potstill.run(run)
    check_results(result.results)
    details = read(result.folder / "details.json")
    assert [m["member"] for m in details["members"]] == ["teacher 1", "teacher 2"]
    texts = potstill.run(with_key(run, "distill.objective", "sequence"))
    check_results(texts.results)
    cover = read(texts.folder / "student" / "training.json")["cover"]["de"]
    said = [read(file)["texts"] for file in (tmp_path / "stages").glob("texts-*/texts.json")]
    (own,) = [texts for texts in said if len(texts) == 32 + cover["pool_rows"]]
    assert None not in own  # each row has a member that has not seen it
    assert cover["train_covered"] == sum(text != "" for text in own[:32]) > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("teachers", {"recipe": "multitask", "members": 2}),
        ("teachers", {"recipe": "finetuned", "members": 2}),
        ("teachers", {"tasks": ["fr"]}),
        ("teachers", {"tasks": []}),
        ("student", {"generations": 2}),
        ("student", {"finetune": True, "layers": 1}),
        ("distill", {"objective": "soft_only"}),
        ("tasks.de.metric", "chrf"),
        ("tasks.de.label_smoothing", 0.0),
        ("seed", [2, 1]),
    ],
)
def test_every_choice_ends_in_results(tmp_path: Path, key: str, value: object) -> None:
    run = with_key(small_run(tmp_path), key, value)
    run["training"]["epochs"] = 1
    run["evaluate"]["baselines"] = []
    if key == "teachers":
        run["teachers"]["training"] = {"epochs": 1}
    result = potstill.run(run)
    check_results(result.results)
    assert set(result.student.predict({"en": "a cat"})) == set(LANGUAGES)


def test_tasks_of_both_kinds_make_one_student(tmp_path: Path) -> None:
    upper = direction("de", kind="generation")
    upper["token"] = "loud"
    for split in ("train", "dev", "test"):
        upper[split] = [{"en": r["en"], "de": r["de"].upper()} for r in upper[split]]
    run = small_run(tmp_path, {"de": direction("de"), "loud": upper})
    run["evaluate"]["baselines"] = []
    result = potstill.run(run)
    check_results(result.results)
    assert result.results["tasks"]["loud"]["metric"] == "chrf"
    facts = read(result.folder / "student" / "student.json")
    assert facts["tasks"]["loud"]["space"]["language"] == "loud"


def texts_of(task: Keys, splits: tuple[str, ...] = ("train", "dev", "test")) -> Rows:
    rows = {row["en"]: row["de"] for split in splits for row in task[split]}
    return [{"en": source, "prediction": f"{text} !"} for source, text in rows.items()]


def test_given_texts_teach_by_their_texts(tmp_path: Path) -> None:
    run = one_direction(tmp_path)
    run["tasks"]["de"]["teachers"] = {"scores": texts_of(run["tasks"]["de"])}
    run["distill"] = {"objective": "sequence", "soft_weight": 1.0}
    result = potstill.run(run)
    check_results(result.results)
    assert result.results["tasks"]["de"]["scores"]["ensemble"] > 0.5
    assert not any(what.startswith("teacher ") for what in made_stages(result.folder))
    partial = with_key(run, "tasks.de.teachers.scores", texts_of(run["tasks"]["de"], ("train",)))
    result = potstill.run(partial)
    check_results(result.results)
    assert "ensemble" not in result.results["tasks"]["de"]["scores"]
    assert (result.folder / "log.jsonl").read_text().count("the ensemble has no score") == 1


def test_check_counts_cut_sources_and_cut_targets_apart(tmp_path: Path) -> None:
    run = one_direction(tmp_path)
    for row in run["tasks"]["de"]["train"]:
        row["de"] += " der hund" * 40
    run = with_key(run, "training.max_tokens", 64)
    found = look(load_run_file(write_run(tmp_path, run)), Progress(quiet=True)).findings["de"]
    (cut,) = [finding for finding in found if "lose their end" in finding.what]
    assert cut.severity == "warning"
    assert cut.what.startswith("100.0% of the tried targets")


def test_a_student_teaches_by_its_texts(place: Path, tmp_path: Path) -> None:
    """It knows the sources by another column, and the task by another name."""
    student = run_folder_of(place) / "student"
    run = one_direction(tmp_path)
    task = run["tasks"].pop("de")
    for split in ("train", "dev", "test"):
        task[split] = [{"english": row["en"], "german": row["de"]} for row in task[split]]
    task |= {"source": "english", "target": "german", "language": "de"}
    run["tasks"]["again"] = task | {"teachers": {"models": [str(student)]}}
    run["distill"] = {"objective": "sequence", "soft_weight": 1.0}
    result = potstill.run(run)
    check_results(result.results)
    said = potstill.load(student, device="cpu", precision="fp32")
    rows = [{"en": row["english"]} for row in task["test"]]
    texts = [answer["tasks"]["de"]["prediction"] for answer in said.predict(rows, ["de"])]
    wanted = BLEU.score(np.array([row["german"] for row in task["test"]]), np.array(texts))
    assert result.results["tasks"]["again"]["scores"]["ensemble"] == pytest.approx(wanted, abs=1e-6)


def test_students_of_other_seeds_teach_together(place: Path, tmp_path: Path) -> None:
    first = run_folder_of(place) / "student"
    other = small_run(tmp_path / "other") | {"seed": 1}
    other["evaluate"]["baselines"] = []
    second = potstill.run(other).folder / "student"
    run = one_direction(tmp_path / "runs")
    run["tasks"]["de"]["teachers"] = {"models": [str(first), str(second)]}
    run["distill"] = {"objective": "sequence"}
    result = potstill.run(run)
    check_results(result.results)
    members = read(result.folder / "details.json")["members"]
    assert [member["member"] for member in members] == ["given 1", "given 2"]
    alone = potstill.run(with_key(run, "tasks.de.teachers.models", [str(first)])).results
    ours = result.results["tasks"]["de"]["scores"]
    assert alone["tasks"]["de"]["scores"]["ensemble"] == pytest.approx(members[0]["test"], abs=1e-6)
    best = max(members, key=lambda member: member["dev"])
    assert ours["teacher_best"] == pytest.approx(best["test"], abs=1e-6)
    stranger = one_direction(tmp_path / "stranger")
    stranger["architecture"]["vocabulary"] = 64
    third = potstill.run(stranger).folder / "student"
    with pytest.raises(MismatchError, match="members with different vocabularies"):
        potstill.run(with_key(run, "tasks.de.teachers.models", [str(first), str(third)]))


def test_a_student_that_does_not_say_the_texts_is_refused(place: Path, tmp_path: Path) -> None:
    student = run_folder_of(place) / "student"
    run = one_direction(tmp_path)
    run["distill"] = {"objective": "sequence"}
    run["tasks"]["de"] |= {"teachers": {"models": [str(student)]}, "language": "nl"}
    with pytest.raises(MismatchError, match="wanted: a task with the token <2nl>") as refused:
        potstill.run(run)
    assert "<2de> (de), <2fr> (fr)" in refused.value.got
    heads = {"kind": "classification", "train": toy_task()["train"], "text": "text"}
    run = {"tasks": {"mood": {**heads, "teachers": {"models": [str(student)]}}}}
    with pytest.raises(BaseModelError, match="a student of potstill") as unfit:
        potstill.run({**run, "output": str(tmp_path / "runs")})
    assert "potstill export" in unfit.value.todo


def test_a_student_folder_is_a_base(place: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path / "runs")
    run["base"] = str(run_folder_of(place) / "student")
    run["student"] = {}
    run["evaluate"]["baselines"] = []
    del run["architecture"]
    result = potstill.run(run)
    check_results(result.results)
    made = kinds_made(set(), stage_names(tmp_path / "runs"))
    assert "vocabulary" not in made
    assert "base" not in made
    student, older = (network_of(f / "student") for f in (result.folder, run_folder_of(place)))
    assert student.tokenizer.digest == older.tokenizer.digest
    assert student.model.config.encoder_layers == 1


def test_a_tenth_of_train_is_dev_where_none_is_given(tmp_path: Path) -> None:
    run = one_direction(tmp_path)
    del run["tasks"]["de"]["dev"]
    run["tasks"]["de"] |= {"rows": 20, "pool": "rest"}
    result = potstill.run(run)
    check_results(result.results)
    cover = read(result.folder / "student" / "training.json")["cover"]["de"]
    assert cover["train_rows"] == 20
    assert cover["pool_rows"] > 3


# -- what is refused ----------------------------------------------------------------------------


def refused(run: Keys, kind: type[PotstillError], message: str) -> str:
    """What both ways in say; before anything is trained."""
    with pytest.raises(kind) as caught:
        potstill.run(run)
    text = str(caught.value)
    assert re.search(message, text), text
    networks = [*Path(run["output"]).glob("stages/network-*/manifest.json")]
    assert not networks
    return text


def refused_file(folder: Path, run: Keys, exit_code: int, *messages: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")  # paths of tests are long, and lines would break in them
        result = call("check", write_run(folder, run))
    said = " ".join((result.stdout + result.stderr).split())
    assert result.exit_code == exit_code, said
    for message in messages:
        assert re.search(message, said), said


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base", "minilm", "minilm, which is an encoder"),
        ("student.base", "minilm", "minilm, which is an encoder"),
        ("teachers.base", "minilm", "minilm, which is an encoder"),
        ("distill.objective", "logit_mse", "keep a few likely pieces only"),
        ("student.task_token", True, "a token stands before every source already"),
        ("student.pooling", "cls", "a decoder reads every token"),
        ("teachers.pooling", "mean", "a decoder reads every token"),
        ("student.architecture.vocabulary", 90, "one vocabulary for all networks"),
        ("architecture.width", 15, "even multiple of `heads`"),
        ("tasks.de.label_smoothing", "much", "label_smoothing"),
        ("tasks.de.source", "de", "de"),
        ("tasks.de.language", "d e", "language"),
        ("tasks.de.metric", "accuracy", "bleu"),
        ("tasks.de.teachers", {"scores": "texts.jsonl"}, "objective: sequence"),
        ("tasks.de.teachers", {"models": ["./a"]}, "objective: sequence"),
        ("teachers", {"members": 2, "each": [{}, {"base": "minilm"}]}, "which is an encoder"),
    ],
)
def test_keys_that_contradict(tmp_path: Path, key: str, value: object, message: str) -> None:
    run = with_key(small_run(tmp_path / "runs"), key, value)
    text = refused(run, RunFileError, message)
    assert not re.search(r"has \d+ faults", text)  # one fault, one message
    refused_file(tmp_path, run, 2, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", {"width": 16}, "an encoder has the size of its base"),
        ("decoding", {"beams": 2}, "generation and translation"),
        ("student.architecture", {"width": 16}, "generation and translation"),
        ("distill.objective", "sequence", "for generation and translation"),
        ("base", "marian", "marian, which is of generation and translation"),
        ("student.base", "marian", "generation and translation"),
        ("teachers.base", "marian", "generation and translation"),
    ],
)
def test_keys_of_sequences_in_an_encoders_run(
    base: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    run = {"output": str(tmp_path / "runs"), "base": str(base), "tasks": {"mood": toy_task()}}
    refused(with_key(run, key, value), RunFileError, message)


def test_tasks_of_two_families_are_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "runs", {"mood": toy_task(), "de": direction("de")})
    message = "'translation' beside 'classification' .task 'mood'."
    refused(run, RunFileError, message)
    refused_file(tmp_path, run, 2, message, "two run files")


def test_two_tasks_with_one_token_are_refused(tmp_path: Path) -> None:
    tasks = {name: direction("de", kind="generation") for name in ("one", "two")}
    run = small_run(tmp_path / "runs", tasks)
    refused(run, RunFileError, "a token for each task")
    refused_file(tmp_path, run, 2, "'de', which stands before the sources of 'one' too")
    other = with_key(run, "tasks.two.token", "two")
    potstill.config.parse_run(other)
    # A task that says texts and a direction are told apart by nothing else either.
    mixed = small_run(tmp_path / "runs", {"de": direction("de"), "one": tasks["one"]})
    refused(mixed, RunFileError, "a token for each task")


def test_two_directions_into_one_language_are_welcome(tmp_path: Path) -> None:
    back = direction("de", seed=7)
    for split in ("train", "dev", "test"):
        back[split] = [{"fr": f"{r['en']} x", "de": r["de"]} for r in back[split]]
    back["source"] = "fr"
    run = small_run(tmp_path / "runs", {"en-de": direction("de"), "fr-de": back})
    potstill.config.parse_run(run)


def test_a_token_that_a_base_lacks_is_refused(place: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path / "runs")
    run["base"] = str(run_folder_of(place) / "student")
    del run["architecture"]
    run["tasks"]["fr"]["language"] = "es"
    with pytest.raises(BaseModelError, match="a vocabulary without the token <2es>") as lacking:
        potstill.run(run)
    assert "<2de>, <2fr>" in lacking.value.wanted
    refused_file(tmp_path, run, 1, "a vocabulary without the token <2es>")


def test_a_folder_without_an_encoder_decoder_is_refused(base: Path, tmp_path: Path) -> None:
    run = with_key(small_run(tmp_path / "runs"), "base", str(base))
    refused(run, RunFileError, "encoder-decoder")
    del run["architecture"]
    untrained = sequence_base(tmp_path / "sizes")
    refused(with_key(run, "base", str(untrained)), BaseModelError, "no weights")


def spoil(split: str, change: Callable[[Keys], None]) -> Callable[[Keys], None]:
    def spoilt(task: Keys) -> None:
        change(task[split][4])

    return spoilt


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("", "the target is empty text"),
        (" ", "the target is empty text"),
        (None, "the target is missing|no label|empty"),
        (7, "the target is int 7, not text"),
    ],
)
def test_a_faulty_target_has_its_place(tmp_path: Path, split: str, value: object, got: str) -> None:
    run = one_direction(tmp_path / "runs")
    run["tasks"]["de"][split][4]["de"] = value
    refused(run, DataError, got)
    if not isinstance(value, int):
        run["evaluate"]["resamples"] = 200
        refused_file(tmp_path, run, 1, f"{split}.jsonl", "line 5")


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    run = one_direction(tmp_path / "runs")
    run["tasks"]["de"]["train"][4]["de"] = "a\ud800"
    refused(run, DataError, "half|surrogate")


@pytest.mark.parametrize("column", ["en", "de"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    run = one_direction(tmp_path / "runs")
    for row in run["tasks"]["de"]["train"]:
        row[f"{column}2"] = row.pop(column)
    refused(run, DataError, f"'?{column}'?")
    refused_file(tmp_path, run, 1, column, "train.jsonl")


def test_a_vocabulary_without_room_says_how_much_it_needs(tmp_path: Path) -> None:
    run = one_direction(tmp_path / "runs")
    odd = "".join(map(chr, range(0x4E00, 0x4E80)))
    run["tasks"]["de"]["train"][0]["de"] = odd
    run["architecture"]["vocabulary"] = 64
    text = refused(run, DataError, "no room for the characters")
    assert "architecture: {vocabulary:" in text


def test_two_models_of_others_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = one_direction(tmp_path / "runs")
    run["distill"] = {"objective": "sequence"}
    run["tasks"]["de"]["teachers"] = {"models": [str(tmp_path), str(tmp_path / "other")]}
    refused(run, RunFileError, "one model, or several students .*: texts of others have no mean")


def test_a_faulty_file_of_texts_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    run = one_direction(tmp_path / "runs")
    run["distill"] = {"objective": "sequence"}
    texts = texts_of(run["tasks"]["de"])
    texts[3]["prediction"] = ""
    run["tasks"]["de"]["teachers"] = {"scores": texts}
    refused(run, DataError, "row 3")
