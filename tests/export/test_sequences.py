"""An exported encoder-decoder says what torch says; its bundle reads as it was written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel

from potstill.core.errors import ArtefactError, ResourceError
from potstill.core.progress import Progress
from potstill.export import choose_decoder
from potstill.export import decoders as decoders_module
from potstill.export.bundle import BUNDLE_FILE, pack, read_bundle
from potstill.export.decoders import DECODERS, decoders_here, need_decoder, open_decoder
from potstill.models.beam_search import generate
from potstill.models.ctranslate import FILES, open_translator
from potstill.models.pieces import Decoding, most_pieces
from potstill.models.sequence import SequenceModel
from potstill.models.to_ctranslate import to_ctranslate
from potstill.models.token_rows import TokenRows
from potstill.students.translator import save_translator
from potstill.training.sequence_network import SequenceNetwork
from tests.export.test_bundle import change
from tests.sequences import pair_rows, sentences, sequence_base, sequence_network, sequence_task
from tests.tiny import CPU, flip_byte
from tests.tiny_sequences import (
    SequenceBundle,
    make_sequence_bundle,
    make_sequence_student,
    tiny_sequence_network,
)

N = 100


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SequenceBundle:
    """A student and its bundle; never write into them."""
    return make_sequence_bundle(tmp_path_factory.mktemp("sequences"))


@pytest.fixture
def copy(made: SequenceBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.done.folder, tmp_path / "copy"))


def random_sources(network: SequenceNetwork, task: str, seed: int) -> TokenRows:
    """Sentences of lengths that the network has not seen."""
    return network.tokenise(task, {"en": sentences(N, seed, longest=14)})


def row_of(tokens: TokenRows, i: int) -> torch.Tensor:
    return torch.from_numpy(tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]).long()[None]


def torch_pieces(model: SequenceModel, tokens: TokenRows, beams: int) -> list[list[int]]:
    """Each source alone, so that nothing is padded."""
    found = []
    for i in range(len(tokens)):
        ids = row_of(tokens, i)
        most = most_pieces(ids.shape[1], model.max_tokens)
        mask = torch.ones_like(ids, dtype=torch.bool)
        found += generate([model], ids, mask, beams=beams, length_penalty=1.0, most=most)
    return found


def mean_log_probability(
    model: SequenceModel, tokens: TokenRows, said: list[list[int]]
) -> np.ndarray:
    """(N,) by the model itself, of each text's pieces and its end."""
    means = []
    for i, pieces in enumerate(said):
        ids = row_of(tokens, i)
        ended = len(pieces) < most_pieces(ids.shape[1], model.max_tokens)
        whole = [*pieces, 0] if ended else pieces
        before = torch.tensor([[model.start, *whole[:-1]]])
        all_of = torch.ones_like(before, dtype=torch.bool)
        with torch.inference_mode():
            logits = model(ids, torch.ones_like(ids, dtype=torch.bool), before, all_of)
        means.append(float(logits.log_softmax(-1)[range(len(whole)), whole].mean()))
    return np.array(means)


@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_texts_in_fp32_are_those_of_torch(tmp_path: Path, seed: int) -> None:
    network = tiny_sequence_network(
        tmp_path / "base", [sequence_task("de"), sequence_task("fr")], seed=seed, max_tokens=64
    )
    translator = open_translator(to_ctranslate(network.model, network.tokenizer.pieces), threads=1)
    for task in ("de", "fr"):
        tokens = random_sources(network, task, seed)
        wanted = torch_pieces(network.model, tokens, beams=1)
        found = translator.translate(tokens, beams=1, length_penalty=1.0, max_tokens=64)
        assert sum(a == b for a, b in zip(found, wanted, strict=True)) == N
        assert len({tuple(pieces) for pieces in wanted}) > N // 2
        texts = network.texts(tokens, CPU, decoding=Decoding(beams=1))
        assert network.tokenizer.decode(found) == texts.tolist()


def test_texts_that_do_not_end_are_as_long(tmp_path: Path) -> None:
    """Also where a batch holds longer sources."""
    network = tiny_sequence_network(tmp_path / "base", [sequence_task("de")], max_tokens=40)
    network.model.backbone.get_buffer("final_logits_bias")[0, 0] = -100.0
    tokens = random_sources(network, "de", 0)
    translator = open_translator(to_ctranslate(network.model, network.tokenizer.pieces), threads=1)
    found = translator.translate(tokens, beams=1, length_penalty=1.0, max_tokens=40)
    assert [len(pieces) for pieces in found] == [most_pieces(int(n), 40) for n in tokens.lengths]
    assert len({len(pieces) for pieces in found}) > 1
    texts = network.texts(tokens, CPU, decoding=Decoding(beams=1))
    assert network.tokenizer.decode(found) == texts.tolist()


@pytest.mark.parametrize("beams", [1, 4])
def test_what_was_learned_may_be_longer_than_its_source(tmp_path: Path, beams: int) -> None:
    decoding = Decoding(beams=beams, longest=50)
    network = tiny_sequence_network(tmp_path / "base", [sequence_task("de")], max_tokens=64)
    network.decoding = decoding
    network.model.backbone.get_buffer("final_logits_bias")[0, 0] = -100.0
    tokens = random_sources(network, "de", 0)
    assert most_pieces(int(tokens.lengths.max()), 64) < 50
    texts = network.texts(tokens, CPU, decoding=Decoding(beams=beams))  # another way of looking
    assert texts.tolist() == network.texts(tokens, CPU).tolist()
    files = to_ctranslate(network.model, network.tokenizer.pieces)
    decoder = open_decoder(
        "ctranslate2-fp32", files, network.tokenizer, decoding=decoding, max_tokens=64, threads=1
    )
    assert decoder.texts(tokens).tolist() == texts.tolist()
    translator = open_translator(files, threads=1)
    keys = {"beams": beams, "length_penalty": 1.0, "max_tokens": 64, "longest": 50}
    assert {len(p) for p in translator.translate(tokens, **keys)} == {50}  # type: ignore[arg-type]


@pytest.mark.parametrize("beams", [1, 4])
def test_no_answer_depends_on_its_neighbours(tmp_path: Path, beams: int) -> None:
    """Untrained networks come to no end: every text reaches its limit."""
    base = sequence_base(tmp_path / "base")
    network = sequence_network(base, [sequence_task("de")], max_tokens=64)
    texts = sentences(30, 1, longest=40)
    translator = open_translator(to_ctranslate(network.model, network.tokenizer.pieces), threads=1)

    def said(sources: list[str]) -> list[list[int]]:
        tokens = network.tokenise("de", {"en": sources})
        return translator.translate(tokens, beams=beams, length_penalty=1.0, max_tokens=64)

    assert said(texts) == [said([text])[0] for text in texts]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_search_finds_likelier_texts(made: SequenceBundle, length_penalty: float) -> None:
    network = made.network
    tokens = random_sources(network, "fr", 3)
    translator = open_translator(to_ctranslate(network.model, network.tokenizer.pieces), threads=1)
    mean = {}
    for beams in (1, 4):
        said = translator.translate(
            tokens, beams=beams, length_penalty=length_penalty, max_tokens=network.max_tokens
        )
        scores = mean_log_probability(network.model, tokens, said)
        lengths = np.array([len(pieces) + 1 for pieces in said])
        mean[beams] = float((scores * lengths ** (1 - length_penalty)).mean())
    assert mean[4] >= mean[1]
    ours = torch_pieces(network.model, tokens, beams=4)
    same = [a == b for a, b in zip(ours, said, strict=True)]
    assert length_penalty != 1.0 or np.mean(same) > 0.8


def test_other_number_formats_say_about_the_same(made: SequenceBundle) -> None:
    network = made.network
    tokens = random_sources(network, "de", 4)
    wanted = network.texts(tokens, CPU).tolist()
    for name in decoders_here():
        files = to_ctranslate(
            network.model,
            network.tokenizer.pieces,
            compute_type=DECODERS[name].compute_type,
        )
        decoder = open_decoder(
            name,
            files,
            network.tokenizer,
            decoding=network.decoding,
            max_tokens=network.max_tokens,
            threads=1,
        )
        found = decoder.texts(tokens).tolist()
        same = np.mean([a == b for a, b in zip(found, wanted, strict=True)])
        assert same == 1 if DECODERS[name].exact else same > 0.3


def test_the_model_stays_as_it_is_and_gives_the_same_bytes(made: SequenceBundle) -> None:
    model, pieces = made.network.model, made.network.tokenizer.pieces
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    files = to_ctranslate(model, pieces, compute_type="int8")
    assert list(files) == list(FILES)
    assert files == to_ctranslate(model, pieces, compute_type="int8")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with pytest.raises(ValueError, match="names for"):
        to_ctranslate(model, pieces[:-1])


def test_chunks_are_told_and_rows_keep_their_order(
    made: SequenceBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made.network
    tokens = random_sources(network, "de", 5)
    translator = open_translator(to_ctranslate(network.model, network.tokenizer.pieces), threads=1)
    how = {"beams": 1, "length_penalty": 1.0, "max_tokens": 32}
    whole = translator.translate(tokens, **how)  # type: ignore[arg-type]
    monkeypatch.setattr("potstill.models.ctranslate._CHUNK_ROWS", 16)
    told: list[int] = []
    assert translator.translate(tokens, **how, done=told.append) == whole  # type: ignore[arg-type]
    assert told == [16] * 6 + [4]


def test_transformers_reads_the_students_folder(made: SequenceBundle) -> None:
    network = made.network
    theirs: Any = MarianMTModel.from_pretrained(made.student.folder / "encoder")
    tokens = random_sources(network, "de", 6)
    wanted = torch_pieces(network.model, tokens, beams=1)
    for i in range(N):
        most = most_pieces(int(tokens.lengths[i]), network.model.max_tokens)
        said = theirs.generate(
            input_ids=row_of(tokens, i), num_beams=1, do_sample=False, max_new_tokens=most
        )
        pieces = said[0, 1:].tolist()
        if len(wanted[i]) < most - 1:
            assert pieces == [*wanted[i], 0]
        else:  # theirs puts the end in the last place, whatever is likeliest there
            assert pieces[: most - 1] == wanted[i][: most - 1]


def test_folder_and_zip_hold_the_same(made: SequenceBundle, tmp_path: Path) -> None:
    folder = read_bundle(made.done.folder)
    assert made.done.packed is not None
    assert folder == read_bundle(made.done.packed)
    assert folder.heads == made.network.tasks
    assert folder.decoding == Decoding(beams=1)
    assert list(folder.files) == list(FILES)
    with pytest.raises(ValueError, match="no graph"):
        _ = folder.graph
    names = {path.name for path in made.done.folder.iterdir()}
    assert names == {"README.md", BUNDLE_FILE, "manifest.json", "tokenizer.json", *FILES}
    pack(made.done.folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == made.done.packed.read_bytes()


def test_the_bundles_folder_is_a_ctranslate2_model(made: SequenceBundle) -> None:
    translator = ctranslate2.Translator(str(made.done.folder))
    tokenizer = made.network.tokenizer
    tokens = random_sources(made.network, "de", 7)
    sources = tokenizer.names([row_of(tokens, i)[0].tolist() for i in range(3)])
    found = translator.translate_batch(sources, beam_size=1)
    texts = tokenizer.decode(tokenizer.numbers([one.hypotheses[0] for one in found]))
    assert texts == made.network.texts(tokens, CPU).tolist()[:3]


@pytest.mark.parametrize("name", [*FILES, "tokenizer.json", BUNDLE_FILE, "README.md"])
def test_a_flipped_byte_is_found(copy: Path, name: str) -> None:
    flip_byte(copy / name, (copy / name).stat().st_size // 2)
    with pytest.raises(ArtefactError, match=name):
        read_bundle(copy)


@pytest.mark.parametrize(
    "facts",
    [
        {"files": ["model.bin", "other.bin"]},
        {"files": ["../../secret"]},
        {"files": None},
        {"decoding": {"beams": 0, "length_penalty": 1.0}},
        {"decoding": {"beams": 10**9, "length_penalty": 1.0}},
        {"decoding": {"beams": 4}},
        {"decoding": 3},
    ],
)
def test_facts_that_no_export_writes(copy: Path, facts: dict[str, object]) -> None:
    change(copy, **facts)
    with pytest.raises(ArtefactError, match="not what an export writes"):
        read_bundle(copy)


def test_a_model_that_is_none_or_of_other_pieces_is_refused(made: SequenceBundle) -> None:
    bundle = read_bundle(made.done.folder)
    how = {"decoding": Decoding(beams=1), "max_tokens": 32, "threads": 1}
    pieces = json.loads(bundle.files["shared_vocabulary.json"])
    swapped = json.dumps([*pieces[:5], pieces[6], pieces[5], *pieces[7:]]).encode()
    for files, says in (
        ({"model.bin": bundle.files["model.bin"][:-100]}, "cannot load the model"),
        ({"model.bin": b"no model"}, "cannot load the model"),
        ({"shared_vocabulary.json": b"[1, 2]"}, "cannot load the model"),
        ({"shared_vocabulary.json": swapped}, "other pieces"),
    ):
        with pytest.raises(ArtefactError, match=says):
            open_decoder(
                "ctranslate2-fp32",
                {**bundle.files, **files},
                made.network.tokenizer,
                **how,  # type: ignore[arg-type]
            )
    with pytest.raises(ArtefactError, match="does not know"):
        need_decoder("onnxruntime-fp32")


def test_every_engine_that_is_here_is_measured(tmp_path: Path) -> None:
    made = make_sequence_bundle(tmp_path, decoding=Decoding(beams=3), engines=decoders_here())
    done = made.done
    assert [c.engine for c in done.candidates] == decoders_here()
    assert done.engine in decoders_here()
    for candidate in done.candidates:
        assert set(candidate.ms) == {"1", "16"}
        assert set(candidate.scores) == set(candidate.drops) == {"de", "fr"}
        assert all(ms > 0 for ms in candidate.ms.values())
    exact = done.candidates[0]
    assert exact.engine == "ctranslate2-fp32"
    assert exact.difference == 0
    sizes = {c.engine: c.size_bytes for c in done.candidates}
    assert sizes["ctranslate2-int8"] < sizes["ctranslate2-fp32"]
    card = (done.folder / "README.md").read_text()
    assert "Milliseconds a text (texts a batch)" in card
    assert read_bundle(done.folder).decoding == Decoding(beams=3)


def test_without_rows_only_exact_engines(made: SequenceBundle) -> None:
    network = made.network
    files = {
        name: to_ctranslate(
            network.model, network.tokenizer.pieces, compute_type=DECODERS[name].compute_type
        )
        for name in ("ctranslate2-fp32", "ctranslate2-int8")
    }
    chosen, found, scores = choose_decoder.choose_decoder(
        network, files, {}, max_drop=0.005, threads=1, progress=Progress(quiet=True)
    )
    assert chosen == "ctranslate2-fp32"
    assert scores == {}
    assert [c.refused for c in found] == [None, "not exact, and no dev rows to score it with"]


def test_a_model_that_says_something_else_is_refused(made: SequenceBundle, tmp_path: Path) -> None:
    other = tiny_sequence_network(tmp_path / "b", list(made.tasks.values()), seed=9)
    files = to_ctranslate(other.model, other.tokenizer.pieces)
    with pytest.raises(ArtefactError, match="of its texts are not the student's"):
        choose_decoder.choose_decoder(
            made.network,
            {"ctranslate2-fp32": files},
            {"de": made.tasks["de"].dev},
            max_drop=0.005,
            threads=1,
            progress=Progress(quiet=True),
        )


def test_some_rows_of_many() -> None:
    split = sequence_task("de", dev=pair_rows(400, 3)).dev
    some = choose_decoder.some_rows(split)
    assert len(some) == choose_decoder.MOST_ROWS
    assert some.inputs["en"][0] == split.inputs["en"][0]
    assert some.inputs["en"][-1] == split.inputs["en"][-1]


def test_without_ctranslate2_it_is_said_what_to_install(
    made: SequenceBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ResourceError, match=r"pip install 'potstill\[translation\]'"):
        to_ctranslate(made.network.model, made.network.tokenizer.pieces)
    with pytest.raises(ResourceError, match=r"pip install 'potstill\[translation\]'"):
        open_translator({}, threads=1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert decoders_here() == []
    with pytest.raises(ResourceError, match="pip install ctranslate2"):
        need_decoder("ctranslate2-int8")


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("task", ["de", "fr"])
def test_transformers_alone_says_what_a_task_says(
    made: SequenceBundle, tmp_path: Path, task: str, beams: int
) -> None:
    made.network.decoding = Decoding(beams=beams)
    folder = save_translator(made.network, task, tmp_path / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sources = ["the old cat sang", "  a bird　and <2fr> a road ", "the town"]
    for text in sources:
        batch = tokenizer([text], return_tensors="pt", padding=True)
        wanted = made.network.tokenise(task, {"en": [text]})
        assert batch["input_ids"][0].tolist() == wanted.ids.tolist()
        with torch.inference_mode():
            found = model.generate(**batch)
        assert tokenizer.batch_decode(found, skip_special_tokens=True) == list(
            made.network.texts(wanted, CPU)
        )


def test_a_task_of_texts_is_saved_by_its_student(tmp_path: Path) -> None:
    student, _, _ = make_sequence_student(tmp_path)
    folder = student.save_task("de", tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_bf16_needs_a_processor_that_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders_module, "compute_types_here", lambda: ["fp32", "int8"])
    assert need_decoder("ctranslate2-int8").compute_type == "int8"
    with pytest.raises(ResourceError, match="does not multiply bf16") as refused:
        need_decoder("ctranslate2-bf16")
    assert "--engines ctranslate2-int8" in refused.value.todo
