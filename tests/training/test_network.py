"""A network in its folder, and the way from tasks to one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.core.errors import ArtefactError, BaseModelError, DataError, Stopped
from potstill.core.progress import Progress
from potstill.models.base_folder import find_base
from potstill.tasks.predictor import TaskHead
from potstill.training.network import Network, load_encoder_network, new_network, save_network
from potstill.training.prepare import best_dev, start_network, train_network, training_record
from tests.tiny import CPU, tiny_network, tiny_plan, tiny_settings, toy_task
from tests.training.trainings import StopAt, Training


def answers(network: Network, task: str = "classification") -> np.ndarray:
    rows = toy_task(train=24, dev=8).train.inputs
    return network.outputs(network.tokenise(task, rows), (task,), CPU)[task]


@pytest.mark.parametrize("task_token", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_round_trip(base: Path, tmp_path: Path, pooling: str, task_token: bool) -> None:
    tasks = [toy_task(), toy_task("regression", name="a.b/c")]
    network = tiny_network(base, tasks, pooling=pooling, task_token=task_token, max_tokens=7)  # type: ignore[arg-type]
    save_network(network, tmp_path)
    torch.manual_seed(99)
    again = load_encoder_network(tmp_path)
    assert again.tasks == network.tasks
    assert (again.pooling, again.max_tokens, again.task_token) == (pooling, 7, task_token)
    assert again.n_parameters == network.n_parameters
    for task in network.tasks:
        np.testing.assert_array_equal(answers(again, task), answers(network, task))
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "student.json",
        "tokenizer.json",
    ]


def test_a_network_is_a_base(base: Path, tmp_path: Path) -> None:
    task = toy_task()
    first = tiny_network(base, [task], pooling="mean", task_token=True, seed=1)
    save_network(first, tmp_path)
    second = new_network(
        str(tmp_path),
        {"new": TaskHead(kind=task.kind, inputs=task.inputs, metric="accuracy")},
        seed=2,
        max_tokens=32,
        task_token=True,
    )
    assert second.pooling == "mean"
    assert second.tokenizer.task_token_id("classification") == first.tokenizer.task_token_id(
        "classification"
    )
    table = second.model.encoder.embedding_parameters()[0]
    assert len(table) == second.tokenizer.n_tokens
    old = first.model.encoder.embedding_parameters()[0]
    assert torch.equal(table[: len(old)], old)


def test_the_seed_decides_heads_alone(base: Path) -> None:
    tasks = [toy_task()]
    one, same, other = (tiny_network(base, tasks, seed=seed) for seed in (1, 1, 2))
    weights = [n.model.state_dict() for n in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    differing = [n for n in weights[0] if not torch.equal(weights[0][n], weights[2][n])]
    assert differing == ["_heads.0.linear.weight"]


def test_task_tokens_tell_tasks_apart(base: Path) -> None:
    tasks = [toy_task(), toy_task(name="other")]
    network = tiny_network(base, tasks, task_token=True)
    table = network.model.encoder.embedding_parameters()[0].detach()
    with torch.no_grad():
        table[network.tokenizer.task_token_id("other"), :4] += 1.0
        network.model.head("other").load_state_dict(
            network.model.head("classification").state_dict()
        )
    assert not np.allclose(answers(network, "other"), answers(network, "classification"))
    tokens = network.tokenise("other", {"text": ["good film"]})
    assert network.tokenizer.task_token_id("other") in tokens.ids
    assert network.passes(["classification", "other"]) == [("classification",), ("other",)]


def test_tasks_that_read_the_same_share_a_pass(base: Path) -> None:
    tasks = [toy_task(), toy_task("pair"), toy_task("regression")]
    network = tiny_network(base, tasks)
    assert network.passes([t.name for t in tasks]) == [("classification", "regression"), ("pair",)]
    tokens = network.tokenise("classification", toy_task().train.inputs)
    both = network.outputs(tokens, ("classification", "regression"), CPU)
    alone = network.outputs(tokens, ("regression",), CPU)
    np.testing.assert_array_equal(both["regression"], alone["regression"])


def test_limits_of_the_base_hold(base: Path) -> None:
    assert tiny_network(base, [toy_task()], max_tokens=5000).max_tokens == 64
    assert tiny_network(base, [toy_task()], max_tokens=9).max_tokens == 9


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, "format version 2"),
        ({"tasks": {"x": {}}}, "do not fit together"),
        ({"pooling": None}, "do not fit together"),
    ],
)
def test_descriptions_that_do_not_fit(
    base: Path, tmp_path: Path, change: dict[str, object], error: str
) -> None:
    save_network(tiny_network(base, [toy_task()]), tmp_path)
    file = tmp_path / "student.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**facts, **change}), encoding="utf-8")
    with pytest.raises(ArtefactError, match=error):
        load_encoder_network(tmp_path)


def test_files_of_another_network(base: Path, tmp_path: Path) -> None:
    save_network(tiny_network(base, [toy_task()]), tmp_path)
    save_network(tiny_network(base, [toy_task("regression")]), tmp_path / "other")
    (tmp_path / "heads.safetensors").write_bytes(
        (tmp_path / "other" / "heads.safetensors").read_bytes()
    )
    with pytest.raises(ArtefactError, match="do not fit together"):
        load_encoder_network(tmp_path)
    for name in ("heads.safetensors", "encoder/model.safetensors"):
        save_network(tiny_network(base, [toy_task()]), tmp_path)
        (tmp_path / name).write_bytes(b"\x80\x04pickle" * 20)
        with pytest.raises(BaseModelError, match="not safetensors"):
            load_encoder_network(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(ArtefactError):
            load_encoder_network(tmp_path)


def train(base: Path, folder: Path, stop: StopAt | None = None, max_tokens: int = 32) -> None:
    folder.mkdir(exist_ok=True)
    train_network(
        folder,
        [toy_task(train=16, dev=8)],
        tiny_plan(base, head_dropout={"classification": 0.3}),
        tiny_settings(max_tokens=max_tokens),
        extras={},
        seed=0,
        device=CPU,
        progress=Progress(stop=stop) if stop else Progress(),
        name="t",
        record={"note": 1},
    )


def test_a_base_that_changes_while_a_run_goes_on_is_refused(base: Path, tmp_path: Path) -> None:
    """Its network would be kept under the digest of what stood there when the run began."""
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    plan = replace(tiny_plan(copy, base_digest=find_base(str(copy)).digest), named=str(copy))
    task = toy_task(train=16)
    start_network([task], plan, tiny_settings(), seed=0)
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ArtefactError, match="other content than when the run began"):
        start_network([task], plan, tiny_settings(), seed=0)


def test_training_leaves_a_network_and_its_record(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "whole")
    record = training_record(tmp_path / "whole")
    assert record["note"] == 1
    assert record["settings"]["epochs"] == 2
    assert "checkpoint_seconds" not in record["settings"]
    assert record["truncated"] == {"classification": 0.0}
    scores = dict(record["dev"]["classification"])
    assert best_dev(tmp_path / "whole", "classification") == max(scores.values())
    network = load_encoder_network(tmp_path / "whole")
    task = toy_task(train=16, dev=8)
    tokens = network.tokenise(task.name, task.dev.inputs)
    outputs = network.outputs(tokens, (task.name,), CPU)[task.name]
    assert task.dev.labels is not None
    score = task.metric.score(task.dev.labels.astype(int), task.kind.predict(outputs), None)
    assert score == max(scores.values())


def test_a_stopped_training_gives_the_same_files(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(base, tmp_path / "stopped", StopAt(2))
    train(base, tmp_path / "stopped")
    for name in ("heads.safetensors", "encoder/model.safetensors", "encoder/tokenizer.json"):
        whole, stopped = (tmp_path / run / name for run in ("whole", "stopped"))
        assert stopped.read_bytes() == whole.read_bytes()
    records = [training_record(tmp_path / run) for run in ("whole", "stopped")]
    for record in records:
        del record["seconds"]
    assert records[0] == records[1]


def test_rows_that_are_all_too_long(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every row is longer than 4 tokens"):
        train(base, tmp_path / "run", max_tokens=4)


def test_padding_may_have_any_id(base: Path, tmp_path: Path) -> None:
    """A base that does not say which, and whose padding comes last in its vocabulary."""
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary["[PAD]"], vocabulary[last] = vocabulary[last], vocabulary["[PAD]"]
    for token in tokenizer["added_tokens"]:
        if token["content"] == "[PAD]":
            token["id"] = vocabulary["[PAD]"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    training = Training(
        base=folder, tasks=[toy_task(train=16, dev=8)], extras={}, settings=tiny_settings()
    )
    trained = training.run(tmp_path / "net")
    assert len(trained.result.state.dev["classification"]) == 2
