"""Each fault of a run file: where the message puts it, what it says that was wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from potstill.config import RunFile

Load = Callable[..., RunFile]
Refuse = Callable[..., str]

TASK = "tasks: {rte: {kind: classification, train: t.csv, text: [a, b]}}\n"
TWO = """\
tasks:
  rte: {kind: classification, train: t.csv, text: a}
  sst: {kind: classification, train: t.csv, text: a, rows: 5}
"""


def has(message: str, *parts: str) -> None:
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in:\n{message}"


def test_unknown_key_with_place_and_nearest(refuse: Refuse) -> None:
    said = refuse(TASK + "teachers:\n  membrs: 5\n")
    has(
        said,
        "run.yaml, line 3, column 3, key 'teachers.membrs'",
        "got:    the unknown key 'membrs'",
        "wanted: one of: tasks, members,",
        "nearest: 'members'",
        "rename it to 'members'",
    )


@pytest.mark.parametrize(
    ("line", "place", "parts"),
    [
        ("sed: 3", "line 2, column 1, key 'sed'", ["nearest: 'seed'"]),
        ("epochs: 3", "key 'epochs'", ["write it under `training:`"]),
        ("patience: 3", "key 'patience'", ["write it under `training:`"]),
        ("members: 3", "key 'members'", ["write it under `teachers:`"]),
        ("quux: 3", "key 'quux'", ["remove it"]),
        ("distill: {base: x}", "key 'distill.base'", ["at the top of the file"]),
        ("student: {training: {epoch: 3}}", "column 22, key 'student.training.epoch'", ["epochs"]),
        ("teachers: {each: [{sed: 1}]}", "column 20, key 'teachers.each.0.sed'", ["'seed'"]),
        ("student: {experts: 8}", "key 'student.experts'", ["not in this version"]),
        ("student: {trunk: mmoe}", "column 18, key 'student.trunk'", ["not in this version"]),
        ("student: {trunk: shraed}", "key 'student.trunk'", ["nearest: 'shared'"]),
        ("precision: fp16", "line 2, column 12, key 'precision'", ["auto, fp32, bf16"]),
        ("device: gpu", "key 'device'", ["cuda:<number>"]),
        ("device: cuda:x", "key 'device'", ["cuda:<number>"]),
        ("name: a/b", "key 'name'", ["letters, digits"]),
        ("name: ''", "key 'name'", ["letters, digits"]),
        ("name: 3", "key 'name'", ["a text", "put it in quotes"]),
        ("output: 3", "key 'output'", ["a path"]),
        ("output: ~nobody-here/x", "key 'output'", ["home folder"]),
        ("base: ''", "key 'base'", ["'minilm', 'marian', a folder, or a hub id"]),
        ("base: null", "key 'base'", ["nothing (null)"]),
        ("seed: []", "key 'seed'", ["list of at least one"]),
        ("seed: [1, 2, 1]", "line 2, column 14, key 'seed.2'", ["1 twice"]),
        ("seed: [1, x]", "column 11, key 'seed.1'", ["the text 'x'", "a whole number"]),
        ("seed: -1", "key 'seed'", ["the number -1"]),
        ("seed: true", "key 'seed'", ["true"]),
        ("seed: 1.5", "key 'seed'", ["the number 1.5"]),
        (
            f"teachers: {{each: [{{seed: {2**64}}}]}}",
            "key 'teachers.each.0.seed'",
            ["below 4294967296"],
        ),
        ("training: {epochs: 0}", "key 'training.epochs'", ["at least 1", "Passes over"]),
        ("training: {epochs: 1.5}", "key 'training.epochs'", ["a whole number"]),
        ("training: {epochs: '3'}", "key 'training.epochs'", ["without quotes"]),
        ("training: {learning_rate: fast}", "key 'training.learning_rate'", ["a number"]),
        ("training: {learning_rate: 0}", "key 'training.learning_rate'", ["above 0"]),
        ("training: {learning_rate: 2}", "key 'training.learning_rate'", ["at most 1"]),
        ("training: {clip: .inf}", "key 'training.clip'", ["a finite number"]),
        ("training: {warmup: 1.5}", "key 'training.warmup'", ["at most 1"]),
        ("training: {dropout: 1}", "key 'training.dropout'", ["below 1"]),
        ("training: {optimizer: adam}", "key 'training.optimizer'", ["adamw, adamax", "nearest"]),
        ("training: {mixing: sqr}", "key 'training.mixing'", ["nearest: 'sqrt'"]),
        ("training: {mixing: 5}", "key 'training.mixing'", ["{temperature: t}"]),
        ("training: {mixing: {temperature: 0}}", "key 'training.mixing.temperature'", ["above 0"]),
        ("training: {mixing: {temp: 1}}", "key 'training.mixing'", ["{temperature: t}"]),
        ("training: 3", "key 'training'", ["a mapping"]),
        ("training: [a]", "key 'training'", ["a list of 1", "a mapping"]),
        ("teachers: {members: 0}", "key 'teachers.members'", ["at least 1"]),
        ("teachers: {recipe: mtdnnkd}", "key 'teachers.recipe'", ["nearest: 'mt-dnn-kd'"]),
        ("teachers: {tasks: rte}", "key 'teachers.tasks'", ["a list"]),
        ("teachers: {tasks: [rte, rte]}", "column 25, key 'teachers.tasks.1'", ["'rte' twice"]),
        ("teachers: {tasks: [rte, ret]}", "key 'teachers.tasks.1'", ["no task", "nearest: 'rte'"]),
        ("teachers: {cross_fit: 1}", "key 'teachers.cross_fit'", ["true or false"]),
        ("teachers: {cross_fit: on}", "key 'teachers.cross_fit'", ["the text 'on'"]),
        ("teachers: {cross_fit: true, members: 1}", "key 'teachers.cross_fit'", ["2 or more"]),
        ("teachers: {nets: 6}", "key 'teachers.nets'", ["recipe multitask", "`members`"]),
        ("teachers: {keep: 6}", "key 'teachers.keep'", ["recipe: mt-dnn-kd"]),
        ("teachers: {select_on: [rte]}", "key 'teachers.select_on'", ["recipe: mt-dnn-kd"]),
        ("teachers: {recipe: mt-dnn-kd, nets: 2}", "key 'teachers.nets'", ["3 nets to keep"]),
        ("teachers: {recipe: mt-dnn-kd, keep: 7, nets: 6}", "key 'teachers.keep'", ["at most"]),
        ("teachers: {recipe: mt-dnn-kd, keep: 3, members: 4}", "teachers.members", ["keep"]),
        ("teachers: {recipe: mt-dnn-kd, select_on: []}", "teachers.select_on", ["at least 1"]),
        ("teachers: {recipe: mt-dnn-kd, select_on: [x]}", "teachers.select_on.0", ["no task"]),
        ("teachers: {recipe: mt-dnn-kd, cross_fit: true}", "key 'teachers.cross_fit'", ["rows"]),
        ("teachers: {each: [{}, {}]}", "key 'teachers.each'", ["2 entries", "members, 3"]),
        ("teachers: {recipe: mt-dnn-kd, each: [{}]}", "key 'teachers.each'", ["nets, 6"]),
        ("teachers: {each: [{dropout: 2}]}", "key 'teachers.each.0.dropout'", ["below 1"]),
        ("teachers: {pooling: max}", "key 'teachers.pooling'", ["mean, cls"]),
        ("student: {generations: 0}", "key 'student.generations'", ["at least 1"]),
        ("distill: {objective: averaged}", "key 'distill.objective'", ["nearest: 'average'"]),
        ("distill: {soft_weight: 1.5}", "key 'distill.soft_weight'", ["at most 1"]),
        ("distill: {temperature: 0}", "key 'distill.temperature'", ["above 0"]),
        ("distill: {pool: rest}", "key 'distill.pool'", ["`rows:` beside `pool: rest`"]),
        ("distill: {pool: others}", "key 'distill.pool'", ["one task only"]),
        ("distill: {pool: 5}", "key 'distill.pool'", ["'rest', 'others', or the path"]),
        ("distill: {pool: [x, 5]}", "column 21, key 'distill.pool.1'", ["the number 5"]),
        ("distill: {pool: []}", "key 'distill.pool'", ["a list of these"]),
        ("distill: {pool: Rest}", "key 'distill.pool'", ["'rest' in small letters"]),
        ("evaluate: {baselines: [singel]}", "key 'evaluate.baselines.0'", ["nearest: 'single'"]),
        ("evaluate: {baselines: [single, single]}", "key 'evaluate.baselines'", ["once"]),
        ("export: {max_drop: 2}", "key 'export.max_drop'", ["at most 1"]),
        ("tasks: {}", "line 2, column 1, key 'tasks'", ["a second 'tasks'", "line 1"]),
        ("seed: !!python/object:os.x {}", "line 2, column 7, key 'seed'", ["!!python/object:os.x"]),
    ],
)  # fmt: skip
def test_faults_outside_tasks(refuse: Refuse, line: str, place: str, parts: list[str]) -> None:
    has(refuse(TASK + line + "\n"), "run.yaml, line 2", place, *parts)


@pytest.mark.parametrize(
    ("override", "key", "parts"),
    [
        ("kind=clasification", "kind", ["nearest: 'classification'"]),
        ("kind=null", "kind", ["no `kind`"]),
        ("kind=[a]", "kind", ["one of: classification"]),
        ("train=null", "train", ["nothing (null)", "parquet, csv, tsv or jsonl"]),
        ("train=[a.csv, b.csv]", "train", ["a list of 2", "the path"]),
        ("train=''", "train", ["an empty text", "a path"]),
        ("dev=3", "dev", ["the number 3"]),
        ("rows=0", "rows", ["at least 1"]),
        ("text=[a, b, c]", "text", ["a list of 3", "one column name, or a list of two"]),
        ("text=[a, a]", "text", ["'a' twice"]),
        ("text=[a, 3]", "text.1", ["the number 3"]),
        ("text=''", "text", ["column name"]),
        ("text={}", "text", ["one column name"]),
        ("label=a", "label", ["'a', which is an input too"]),
        ("label=''", "label", ["not empty"]),
        ("metric=pearson", "metric", ["accuracy, f1, matthews"]),
        ("classes=[a]", "classes", ["at least 2"]),
        ("classes=[a, a]", "classes.1", ["'a' twice"]),
        ("soft_weight=-1", "soft_weight", ["at least 0"]),
        ("weight=0", "weight", ["above 0"]),
        ("dropout=1", "dropout", ["below 1"]),
        ("pool=rest", "pool", ["`rows:` beside"]),
        ("pool=others", "pool", ["one task only"]),
        ("image=x", "image", ["not in this version"]),
        ("teachers=3", "teachers", ["{models: [...]}"]),
        ("teachers={}", "teachers", ["{models: [...]}"]),
        ("teachers={modles: [a]}", "teachers", ["nearest: 'models'"]),
        ("teachers={models: [a], scores: b}", "teachers", ["both"]),
        ("teachers={models: []}", "teachers.models", ["at least 1"]),
        ("teachers={models: [3]}", "teachers.models.0", ["a folder, or a hub id"]),
        ("teachers={models: [a], lables: [x]}", "teachers.lables", ["nearest: 'labels'"]),
        ("teachers={scores: a, kee: x}", "teachers.kee", ["nearest: 'key'"]),
        ("teachers={scores: 3}", "teachers.scores", ["the number 3"]),
    ],
)  # fmt: skip
def test_faults_of_a_task(refuse: Refuse, override: str, key: str, parts: list[str]) -> None:
    argument = f"tasks.rte.{override}"
    has(refuse(TASK, argument), f"--set {argument}, key 'tasks.rte.{key}'", *parts)


def test_a_range_is_needed_and_checked(refuse: Refuse) -> None:
    task = "tasks:\n  s: {kind: regression, train: t, text: a%s}\n"
    has(refuse(task % ""), "line 2, column 3, key 'tasks.s.range'", "no such key", "add `range:`")
    huge = f"[0, 1{'0' * 400}]"
    for written in ("[5, 0]", "[0, 0]", "[0, .inf]", huge, "[0]", "[a, b]", "3", "[false, true]"):
        said = refuse(task % f", range: {written}")
        has(said, "line 2, column 51, key 'tasks.s.range'", "two ", "numbers")


def test_query_and_text_differ(refuse: Refuse) -> None:
    said = refuse("tasks: {s: {kind: ranking, train: t, query: a, text: a}}\n")
    has(said, "key 'tasks.s.text'", "as query and as text")


def test_positive_and_labels_must_be_classes(refuse: Refuse) -> None:
    said = refuse(
        TASK,
        "tasks.rte.classes=[yes, no]",
        "tasks.rte.positive=yse",
        "tasks.rte.metric=f1",
        "tasks.rte.teachers={models: [m], labels: [yes, maybe]}",
    )
    has(said, "2 faults", "key 'tasks.rte.positive'", "nearest: 'yes'")
    has(said, "key 'tasks.rte.teachers.labels'", "the same labels")


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        (["tasks.rte.positive=yes"], "tasks.rte.positive", "metric: f1"),
        (
            ["tasks.rte.teachers=false", "tasks.rte.temperature=2"],
            "tasks.rte.temperature",
            "without",
        ),
        (
            ["tasks.rte.teachers=false", "tasks.rte.soft_weight=.2"],
            "tasks.rte.soft_weight",
            "without",
        ),
        (["teachers.tasks=[]", "distill.pool=p.csv"], "distill.pool", "a task with teachers"),
        (["teachers.tasks=[]", "student.generations=2"], "student.generations", "1 where no task"),
        (["evaluate={baselines: [], training: {epochs: 9}}"], "evaluate.training", "`single`"),
        (["teachers={members: 1, cross_fit: true}"], "teachers.cross_fit", "members of 2"),
        (["teachers.each=[{}, {}]"], "teachers.each", "as many as members, 3"),
        (["teachers={layers: 9, members: 1, each: [{base: minilm}]}"], "teachers.layers", "1 to 6"),
    ],
)
def test_what_nothing_would_read(
    refuse: Refuse, arguments: list[str], key: str, words: str
) -> None:
    has(refuse(TASK, *arguments), f"key '{key}'", words)


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ("kind: regression, range: [0, 1], temperature: 2", "temperature", "no temperature"),
        (
            "kind: regression, range: [0, 1], teachers: {models: [m], labels: [a, b]}",
            "teachers.labels",
            "no names",
        ),
    ],
)
def test_what_nothing_would_read_of_amounts(
    refuse: Refuse, keys: str, key: str, words: str
) -> None:
    said = refuse(f"tasks:\n  a: {{{keys}, train: t, text: s}}\n")
    has(said, f"key 'tasks.a.{key}'", words)


TEXTS = "tasks:\n  a: {kind: translation, train: t, source: s, target: z}\n"


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        (["teachers.cross_fit=true"], "teachers.cross_fit", "members of 2"),
        (
            ["teachers={recipe: multitask, each: [{}, {}, {}]}"],
            "teachers.each",
            "as many as members, 1",
        ),
        (["student={layers: 2, architecture: {layers: 4}}"], "student.layers", "no second number"),
    ],
)
def test_numbers_that_contradict_each_other_for_texts(
    refuse: Refuse, arguments: list[str], key: str, words: str
) -> None:
    has(refuse(TEXTS, *arguments), f"key '{key}'", words)


@pytest.mark.parametrize(
    ("text", "argument", "todo"),
    [
        (TASK, "layers=3", "write it under `teachers:` or `student:`"),
        (TASK, "student.epochs=3", "write it under `student.training:`"),
        (TASK, "evaluate.epochs=3", "write it under `evaluate.training:`"),
        (TEXTS, "beams=3", "write it under `decoding:`"),
        (TEXTS, "student.vocabulary=900", "write it under `student.architecture:`"),
        (TASK, "sed=1", "rename it to 'seed'"),
        (TASK, "student.precision=fp32", "at the top of the file"),
    ],
)
def test_where_an_unknown_key_belongs(refuse: Refuse, text: str, argument: str, todo: str) -> None:
    has(refuse(text, argument), todo)


def test_true_is_a_class_however_it_is_spelled(load: Load) -> None:
    run = load(
        TASK,
        "tasks.rte.classes=['True', 'False']",
        "tasks.rte.positive=true",
        "tasks.rte.metric=f1",
    )
    assert run.tasks["rte"].space_options["positive"] == "true"


@pytest.mark.parametrize("text", ["tasks:\n", "tasks: {}\n", "tasks: [a]\n", "seed: 1\n"])
def test_tasks_are_needed(refuse: Refuse, text: str) -> None:
    has(refuse(text), "run.yaml", "key 'tasks'")


@pytest.mark.parametrize("name", ["a b", "../x", ".hidden", "-x", "ä", "''", "a/b"])
def test_names_of_tasks(refuse: Refuse, name: str) -> None:
    said = refuse(f"tasks:\n  {name}: {{kind: classification, train: t, text: a}}\n")
    has(said, "line 2, column 3", "letters, digits", "the name '")


def test_a_task_that_is_no_mapping(refuse: Refuse) -> None:
    has(refuse("tasks: {a: 3, b: }\n"), "key 'tasks.a'", "a mapping", "key 'tasks.b.kind'")


def test_teachers_that_contradict_the_list(refuse: Refuse) -> None:
    said = refuse(TWO, "teachers.tasks=[rte]", "tasks.rte.teachers=false")
    has(said, "key 'teachers.tasks.0'", "has no teacher")
    said = refuse(TWO, "teachers.tasks=[rte]", "tasks.rte.teachers={scores: x}")
    has(said, "key 'teachers.tasks.0'", "exist already")
    said = refuse(TWO, "teachers.tasks=[rte]", "tasks.sst.teachers=true")
    has(said, "key 'tasks.sst.teachers'", "leaves this task out")


@pytest.mark.parametrize("how", ["tasks.sst.teachers=null", "teachers.tasks=[rte]"])
def test_a_pool_needs_a_teacher(refuse: Refuse, how: str) -> None:
    has(refuse(TWO, how, "tasks.sst.pool=rest"), "key 'tasks.sst.pool'", "a pool, and no teacher")


@pytest.mark.parametrize(
    ("objective", "key"),
    [
        ("annealed", "temperature"),
        ("annealed", "soft_weight"),
        ("logit_mse", "temperature"),
        ("soft_only", "soft_weight"),
    ],
)
@pytest.mark.parametrize("section", ["distill", "tasks.rte"])
def test_keys_that_an_objective_does_not_read(
    refuse: Refuse, load: Load, objective: str, key: str, section: str
) -> None:
    asked = f"distill.objective={objective}"
    has(refuse(TWO, asked, f"{section}.{key}=0.9"), f"key '{section}.{key}'", f"no `{key}`")
    load(TWO, asked, f"{section}.{key}={1.0 if key == 'temperature' else 0.5}")


def test_rest_of_tasks_without_teachers_is_nothing(refuse: Refuse) -> None:
    has(refuse(TWO, "teachers.tasks=[rte]", "distill.pool=rest"), "key 'distill.pool'", "no `rows`")


def test_unknown_key_of_an_override(refuse: Refuse) -> None:
    said = refuse(TASK, "teachers.membrs=5")
    has(said, "--set teachers.membrs=5, key 'teachers.membrs'", "nearest: 'members'")
    assert "line" not in said.split("\n", 1)[0]


def test_all_faults_at_once_in_the_order_of_the_file(refuse: Refuse) -> None:
    text = """\
seed: -1
seed: 2
tasks:
  rte: {kind: clasification, train: t.csv}
  sst: {kind: classification, trian: t.csv, text: [a, b], pool: !mine x}
  qnli: {kind: classification, train: t.csv, text: a, pool: others, teachers: false}
teachers: {tasks: [rte, qnil], recipe: single, nets: 4}
student: {layers: 0}
"""
    said = refuse(text, "training.epochs=many")
    has(said, "run.yaml has 10 faults", "10 faults")
    places = [line.split(". ", 1)[1] for line in said.splitlines() if ". run.yaml" in line]
    assert places == [
        "run.yaml, line 1, column 7, key 'seed'",
        "run.yaml, line 2, column 1, key 'seed'",
        "run.yaml, line 4, column 15, key 'tasks.rte.kind'",
        "run.yaml, line 5, column 3, key 'tasks.sst.train'",
        "run.yaml, line 5, column 31, key 'tasks.sst.trian'",
        "run.yaml, line 5, column 65, key 'tasks.sst.pool'",
        "run.yaml, line 6, column 61, key 'tasks.qnli.pool'",
        "run.yaml, line 7, column 54, key 'teachers.nets'",
        "run.yaml, line 8, column 19, key 'student.layers'",
    ]
    has(said, "10. --set training.epochs=many, key 'training.epochs'")


def test_contradictions_show_beside_faults(refuse: Refuse) -> None:
    said = refuse(TWO + "teachers: {tasks: [rte, x]}\nstudent: {layers: 0}\n")
    has(said, "2 faults", "key 'teachers.tasks.1'", "key 'student.layers'")
    # A faulty task is still a task: its name is no second fault.
    said = refuse(TWO + "teachers: {tasks: [rte, sst]}\n", "tasks.sst.kind=generating")
    has(said, "key 'tasks.sst.kind'")
    assert "faults" not in said


def test_long_values_are_cut_short(refuse: Refuse) -> None:
    assert "x" * 70 not in refuse(TASK, f"precision={'x' * 500}")
