"""Teachers of texts that exist already: files of texts, and transformers encoder-decoders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tokenizers import processors
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from potstill.core.device import Device
from potstill.core.errors import ArtefactError, BaseModelError, DataError, Stopped
from potstill.models.pieces import Decoding
from potstill.models.sequence import fresh_model
from potstill.targets.texts import say
from potstill.tasks.task import Split, Task
from potstill.teachers.external import look_at
from potstill.teachers.given_models import classifier_member
from potstill.teachers.given_scores import scores_member
from potstill.teachers.given_texts import given_speaker, load_translator, texts_of_file
from potstill.teachers.member import Member
from tests.sequences import pair_rows, sequence_base, sequence_task, toy_pieces
from tests.tiny import CPU, stage_folder
from tests.toys import make_base, write_rows

POOL = [{"en": row["en"]} for row in pair_rows(6, 7)]
TASK = sequence_task(train=10, dev=5, test=4, pool=[POOL])
Rows = list[dict[str, Any]]


def given_texts(
    member: Member,
    task: Task,
    rows: Sequence[Split],
    *,
    beams: int,
    device: Device,
    max_tokens: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """What a model says to splits, one after the other."""
    speak = given_speaker(
        [member], task, beams=beams, length_penalty=1.0, device=device, max_tokens=max_tokens
    )
    columns = task.inputs.columns
    inputs = {c: [value for split in rows for value in split.inputs[c]] for c in columns}
    return speak(inputs, done)


def file_of(rows: Rows, task: Task = TASK, key: str | None = None) -> Member:
    return scores_member(task, rows, key, "given scores")


def answers(rows: Rows) -> Rows:
    return [{"en": row["en"], "prediction": f"said: {row['en']}"} for row in rows]


def all_answers(task: Task = TASK) -> Rows:
    splits = [task.train, task.dev, task.test, task.pool]
    sources = [text for split in splits if split is not None for text in split.inputs["en"]]
    return answers([{"en": text} for text in dict.fromkeys(sources)])


# -- files --------------------------------------------------------------------------------------


def test_texts_are_found_by_their_source() -> None:
    rows = all_answers()[::-1]
    rows[0]["further"] = "columns are ignored"
    found = texts_of_file(file_of(rows), TASK, [TASK.train, TASK.dev])
    sources = [*TASK.train.inputs["en"], *TASK.dev.inputs["en"]]
    assert found == [f"said: {text}" for text in sources]
    assert look_at(file_of(rows), TASK) == []


def test_a_file_on_disk_is_read(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "texts.jsonl", all_answers())
    member = scores_member(TASK, str(file), None, "given scores")
    assert None not in texts_of_file(member, TASK, [TASK.train])
    changed = write_rows(tmp_path / "other.jsonl", all_answers()[:-1])
    other = scores_member(TASK, str(changed), None, "given scores")
    assert member.digest != other.digest
    write_rows(tmp_path / "texts.jsonl", all_answers()[:-1])
    with pytest.raises(ArtefactError, match="other content than when the run began"):
        texts_of_file(member, TASK, [TASK.train])


def test_a_model_that_changes_while_a_run_goes_on_is_refused(translator: Path) -> None:
    member = model_member(translator)
    settings = translator / "generation_config.json"
    before = settings.read_text()
    settings.write_text(before.rstrip() + "\n\n")
    try:
        with pytest.raises(ArtefactError, match="other content than when the run began"):
            given_speaker([member], TASK, beams=1, length_penalty=1.0, device=CPU, max_tokens=32)
    finally:
        settings.write_text(before)


def test_rows_without_a_text_are_left_out() -> None:
    rows = all_answers()
    known = {row["en"] for row in rows[:7]}
    member = file_of(rows[:7])
    found = texts_of_file(member, TASK, [TASK.train])
    assert [text is not None for text in found] == [t in known for t in TASK.train.inputs["en"]]
    (warning, *_) = look_at(member, TASK)
    assert f"7 of {len(TASK.train)} rows of train" in warning


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value as 'prediction'"),
        ("", "empty text as 'prediction'"),
        ("  ", "empty text as 'prediction'"),
        (3, "int 3 as 'prediction'"),
        ("a\0b", "a NUL character"),
        ("a\ud800b", "half of a surrogate pair"),
    ],
)
def test_faulty_texts_say_where(value: object, reason: str) -> None:
    rows = all_answers()
    rows[4]["prediction"] = value
    with pytest.raises(DataError, match="row 4") as refused:
        look_at(file_of(rows), TASK)
    assert reason in str(refused.value)


def test_a_source_has_one_text() -> None:
    rows = [*all_answers(), all_answers()[2]]
    assert look_at(file_of(rows), TASK) == []
    rows[-1] = {**rows[-1], "prediction": "something else"}
    with pytest.raises(DataError, match="another text than an earlier row") as refused:
        look_at(file_of(rows), TASK)
    assert "one text for each en" in refused.value.wanted


@pytest.mark.parametrize("column", ["en", "prediction"])
def test_both_columns_must_be_there(column: str) -> None:
    rows = [{k: v for k, v in row.items() if k != column} for row in all_answers()]
    with pytest.raises(DataError, match=column):
        look_at(file_of(rows), TASK)


def test_a_key_joins_rows_with_texts() -> None:
    rows = [{**row, "id": f"r{i}"} for i, row in enumerate(pair_rows(10))]
    task = sequence_task(
        train=rows, dev=[{**r, "id": f"d{i}"} for i, r in enumerate(pair_rows(4, 3))], key="id"
    )
    texts = [{"id": f"r{i}", "prediction": f"said {i}"} for i in range(9)]
    member = file_of(texts, task, "id")
    found = texts_of_file(member, task, [task.train])
    assert found == [*[f"said {i}" for i in range(9)], None]
    with pytest.raises(DataError, match="rows without that column"):
        texts_of_file(member, TASK, [TASK.train])
    texts.append({"id": "r3", "prediction": "other"})
    with pytest.raises(DataError, match="one text for each id"):
        texts_of_file(file_of(texts, task, "id"), task, [task.train])


def test_rows_without_a_key_are_joined_with_no_text() -> None:
    rows = [{**row, "id": None if i == 3 else i} for i, row in enumerate(pair_rows(6))]
    task = sequence_task(train=rows, dev=rows[:3], key="id")
    texts = [{"id": None if i in (3, 4) else i, "prediction": f"said {i}"} for i in range(6)]
    found = texts_of_file(file_of(texts, task, "id"), task, [task.train])
    assert found == ["said 0", "said 1", "said 2", None, None, "said 5"]


def test_numbers_are_keys_too() -> None:
    rows = [{**row, "id": i} for i, row in enumerate(pair_rows(6))]
    task = sequence_task(train=rows, dev=rows[:3], key="id")
    texts = [{"id": i, "prediction": f"said {i}"} for i in range(6)]
    found = texts_of_file(file_of(texts, task, "id"), task, [task.train])
    assert found == [f"said {i}" for i in range(6)]


def test_a_file_says_its_texts_in_a_stage(tmp_path: Path) -> None:
    assert TASK.pool is not None
    rows = [TASK.train, TASK.pool]
    keys: dict[str, Any] = {"device": CPU, "max_tokens": 32, "what": "w"}
    stages = stage_folder(tmp_path)
    member = file_of(all_answers()[:-1])
    found, digest = say(stages, [member], TASK, rows, decoding=Decoding(), **keys)
    assert found == texts_of_file(member, TASK, rows)
    other, _ = say(stages, [file_of(all_answers())], TASK, rows, decoding=Decoding(), **keys)
    assert None not in other
    again, same = say(stages, [member], TASK, rows, decoding=Decoding(), **keys)
    assert (again, same) == (found, digest)


# -- models -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Marian of others: its own vocabulary, its tokenizer in transformers' format."""
    folder = tmp_path_factory.mktemp("translator")
    model = fresh_model(sequence_base(folder / "base", seed=3), seed=11)
    backbone = model.backbone
    backbone.config.bad_words_ids = None
    backbone.generation_config.bad_words_ids = [[model.start]]
    with torch.no_grad():
        backbone.final_logits_bias[0, 0] = 3.0  # it comes to an end
    backbone.save_pretrained(folder / "model")
    pieces = toy_pieces(seed=3)
    backend = pieces._backend
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def model_member(folder: Path) -> Member:
    return classifier_member(str(folder), (), "given 1", says=True)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_says_what_transformers_says(translator: Path, beams: int) -> None:
    member = model_member(translator)
    done: list[int] = []
    keys: dict[str, Any] = {"beams": beams, "device": CPU, "max_tokens": 32}
    rows = pair_rows(60, longest=3)
    task = sequence_task(train=rows[:20], dev=rows[20:25])
    found = given_texts(member, task, [task.train, task.dev], **keys, done=done.append)
    assert sum(done) == len(task.train) + len(task.dev) == len(found)
    model, tokenizer = load_translator(member)
    model.eval()
    for source, text in zip(task.train.inputs["en"], found, strict=False):
        encoded = tokenizer([source], return_tensors="pt")
        assert encoded["input_ids"][0, -1] == 0
        (said,) = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            num_beams=beams,
            do_sample=False,
            max_new_tokens=32,
        )
        assert text == tokenizer.decode(said, skip_special_tokens=True)
    assert len(set(found)) > 1
    assert look_at(member, TASK) == []


def test_a_model_can_be_stopped(translator: Path) -> None:
    def stop(n_rows: int) -> None:
        raise Stopped("enough", got="x", wanted="y", todo="z")

    with pytest.raises(Stopped):
        given_texts(
            model_member(translator),
            TASK,
            [TASK.train],
            beams=1,
            device=CPU,
            max_tokens=32,
            done=stop,
        )


def test_sources_of_a_model_are_cut(translator: Path) -> None:
    long = [{"en": "the cat " * 50, "de": "x"}, *pair_rows(3)]
    task = sequence_task(train=long, dev=3)
    found = given_texts(
        model_member(translator), task, [task.train], beams=1, device=CPU, max_tokens=8
    )
    assert len(found) == 4
    cut = replace(task.train, inputs={"en": ["the cat " * 3 + "the"] * 4})
    one = given_texts(model_member(translator), task, [cut], beams=1, device=CPU, max_tokens=8)
    assert one[0] == found[0]


def test_a_model_reads_and_says_no_more_than_it_has_places_for(
    translator: Path, tmp_path: Path
) -> None:
    shutil.copytree(translator, tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    config["max_position_embeddings"] = 8
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    weights = safetensors.torch.load_file(translator / "model.safetensors")
    kept = {n: t[:8].clone() if "embed_positions" in n else t for n, t in weights.items()}
    safetensors.torch.save_file(kept, tmp_path / "short" / "model.safetensors", {"format": "pt"})
    (row, *rows) = pair_rows(10, longest=3)
    task = sequence_task(train=[row | {"en": row["en"] * 20}, *rows[:5]], dev=rows[5:])
    member = model_member(tmp_path / "short")
    (text, *_) = given_texts(member, task, [task.train], beams=1, device=CPU, max_tokens=64)
    assert text


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="transformers cannot load it"):
        look_at(model_member(make_base(tmp_path / "bert")), TASK)
    config = MarianConfig(
        vocab_size=20,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        pad_token_id=19,
        decoder_start_token_id=19,
        max_position_embeddings=16,
    )
    MarianMTModel(config).save_pretrained(tmp_path / "alone")
    with pytest.raises(BaseModelError, match="cannot load it") as refused:
        look_at(model_member(tmp_path / "alone"), TASK)
    assert "with its tokenizer" in refused.value.wanted
    assert "scores:" in refused.value.todo
    for file in (tmp_path / "alone").glob("*.safetensors"):
        file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(BaseModelError, match="pickled"):
        look_at(model_member(tmp_path / "alone"), TASK)


def test_a_model_with_half_its_weights_is_refused(translator: Path, tmp_path: Path) -> None:
    for file in translator.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    kept = {n: t for n, t in weights.items() if "decoder.layers.0.fc1" not in n}
    assert len(kept) < len(weights)
    safetensors.torch.save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"fc1"):
        look_at(model_member(tmp_path), TASK)
