"""An encoder-decoder against transformers, its search against plain ones, and its files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import MarianMTModel

from potstill.core.errors import BaseModelError
from potstill.models.beam_search import generate
from potstill.models.pieces import END, UNKNOWN, Decoding
from potstill.models.sequence import (
    Architecture,
    SequenceModel,
    build_model,
    fresh_model,
    load_model,
    save_model,
)
from potstill.training.network import load_network, save_network
from tests.sequences import TINY, sequence_base, sequence_network, sequence_task, tiny_model
from tests.tiny import CPU

N_PIECES = 7  # with the padding token: few enough to look at all short targets


def small(folder: Path, *, seed: int = 0, sharp: float = 2.0, layers: int = 1) -> SequenceModel:
    """A model of six pieces that has opinions of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(TINY, layers=layers).config(N_PIECES)
    (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    model = fresh_model(folder, seed=seed)
    with torch.no_grad():
        model.backbone.model.shared.weight.mul_(sharp)
        model.backbone.final_logits_bias[0, END] = 0.7  # else the end is too rare to matter
    return model.eval()


def sources(lengths: Sequence[int], n_pieces: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask of sources that end with the end."""
    rng = np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths)), n_pieces)  # padding
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    for row, length in enumerate(lengths):
        ids[row, :length] = [*rng.integers(1, n_pieces, length - 1), END]
    return torch.from_numpy(ids), torch.from_numpy(mask)


@torch.inference_mode()
def next_logs(models: Sequence[SequenceModel], ids: Tensor, said: Sequence[int]) -> list[float]:
    """Log-probabilities of what follows ``said``, without any cache."""
    before = torch.tensor([[models[0].start, *said]])
    places = torch.zeros_like(before, dtype=torch.bool)
    places[0, -1] = True
    mask = torch.ones_like(ids, dtype=torch.bool)
    logits = [model(ids, mask, before, places)[0].double() for model in models]
    for own in logits:
        own[UNKNOWN] = -torch.inf
    found = [own.softmax(-1) for own in logits]
    mean: list[float] = torch.stack(found).mean(0).log().tolist()
    return mean


def plain_search(
    models: Sequence[SequenceModel], ids: Tensor, beams: int, length_penalty: float, most: int
) -> list[int]:
    """The same search for one source, one hypothesis after the other."""
    open_ones: list[tuple[float, list[int]]] = [(0.0, [])]
    best, found, n_ended = -np.inf, list[int](), 0
    for length in range(1, most + 1):
        step = [
            (score + log, said, piece)
            for score, said in open_ones
            for piece, log in enumerate(next_logs(models, ids, said))
        ]
        step.sort(key=lambda one: -one[0])
        for score, said, piece in step[:beams]:
            if piece == END or length == most:
                n_ended += 1
                measure = score / length**length_penalty
                if measure > best:
                    best, found = measure, said if piece == END else [*said, piece]
        going = [(score, [*said, piece]) for score, said, piece in step if piece != END]
        open_ones = going[:beams]
        if n_ended >= beams:
            break
    return found


# -- the search ---------------------------------------------------------------------------------


def test_greedy_is_transformers_own(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, sharp=1.5)
    ids, mask = sources([5, 3, 9, 2], model.n_pieces)
    found = generate([model], ids, mask, beams=1, length_penalty=1.0, most=12)
    theirs = model.backbone.generate(  # type: ignore[misc]
        input_ids=ids,
        attention_mask=mask.long(),
        num_beams=1,
        do_sample=False,
        max_new_tokens=12,
        forced_eos_token_id=None,
        # Their output has a place for the padding token.
        bad_words_ids=[[model.start], [UNKNOWN]],
    )
    wanted = [
        list(itertools.takewhile(lambda piece: piece not in (END, model.start), row))
        for row in theirs[:, 1:].tolist()
    ]
    assert found == wanted
    assert len({tuple(row) for row in found}) > 1


@pytest.mark.parametrize("seed", range(6))
def test_enough_beams_find_the_best_of_all_targets(tmp_path: Path, seed: int) -> None:
    """Every target of at most four pieces is looked at; without a length penalty that is exact."""
    most = 4
    model = small(tmp_path, seed=seed)
    ids, mask = sources([4], model.n_pieces, seed)
    pieces = range(2, model.n_pieces)
    targets = [
        list(t) for n in range(most + 1) for t in itertools.product(pieces, repeat=n)
    ]  # those of `most` pieces have no end
    logs: dict[tuple[int, ...], list[float]] = {}
    for said in targets:
        if len(said) < most:
            logs[tuple(said)] = next_logs([model], ids, said)

    def score(said: list[int]) -> float:
        closed = [*said, END] if len(said) < most else said
        return sum(logs[tuple(closed[:i])][piece] for i, piece in enumerate(closed))

    best = max(targets, key=score)
    found = generate([model], ids, mask, beams=(N_PIECES - 2) ** 3, length_penalty=0.0, most=most)
    assert found == [best]


@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_the_search_is_the_plain_one(tmp_path: Path, beams: int, length_penalty: float) -> None:
    """Sources of a batch end at different times; rows that are done leave it."""
    models = [small(tmp_path / f"{k}", seed=3 * k) for k in range(2)]
    lengths = [2, 5, 3, 7, 4, 2, 6]
    ids, mask = sources(lengths, models[0].n_pieces, seed=1)
    for own in (models[:1], models):
        found = generate(own, ids, mask, beams=beams, length_penalty=length_penalty, most=6)
        for row, length in enumerate(lengths):
            wanted = plain_search(own, ids[row : row + 1, :length], beams, length_penalty, 6)
            assert found[row] == wanted, f"{len(own)} models, source {row}"


def test_two_equal_models_are_one(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    ids, mask = sources([5, 3, 9, 2], model.n_pieces)
    keys = {"beams": 3, "length_penalty": 1.0, "most": 10}
    one = generate([model], ids, mask, **keys)  # type: ignore[arg-type]
    assert generate([model, model], ids, mask, **keys) == one  # type: ignore[arg-type]
    other = tiny_model(tmp_path, seed=6)
    both = generate([model, other], ids, mask, **keys)  # type: ignore[arg-type]
    assert both == generate([other, model], ids, mask, **keys)  # type: ignore[arg-type]
    assert both != one


def test_a_target_has_at_most_so_many_pieces(tmp_path: Path) -> None:
    model = small(tmp_path)
    model.backbone.final_logits_bias[0, END] = -50.0  # it never ends by itself
    ids, mask = sources([3, 4], model.n_pieces)
    for beams in (1, 3):
        found = generate([model], ids, mask, beams=beams, length_penalty=1.0, most=5)
        assert [len(row) for row in found] == [5, 5]
        assert END not in found[0]
    model.backbone.final_logits_bias[0, END] = 50.0
    assert generate([model], ids, mask, beams=3, length_penalty=1.0, most=5) == [[], []]


@pytest.mark.parametrize("end", [0.0, -2.0, -50.0])
@pytest.mark.parametrize("beams", [1, 3])
def test_no_text_depends_on_its_neighbours(tmp_path: Path, beams: int, end: float) -> None:
    """Neither on the batch's other rows, nor on their order: also where they run into a limit."""
    task = sequence_task(train=4, dev=4)
    network = sequence_network(
        sequence_base(tmp_path), [task], max_tokens=64, decoding=Decoding(beams=beams)
    )
    network.model.backbone.final_logits_bias[0, END] = end  # the lower, the longer are targets
    texts = ["the cat", "old town road and bird sang green the cat saw", "a", "green " * 12]
    texts += ["bird sang", "the old town saw the green cat"]

    def say(own: list[str]) -> list[str]:
        found = network.texts(network.tokenise("de", {"en": own}), CPU)
        return [str(text) for text in found]

    together = say(texts)
    assert say(texts[::-1]) == together[::-1]
    assert [say([text])[0] for text in texts] == together
    assert say(texts[2:4]) == together[2:4]


def test_every_source_has_its_own_limit(tmp_path: Path) -> None:
    lengths, limits = [4, 6, 3, 5], [3, 9, 6, 1]
    for seed in range(8):
        model = small(tmp_path, seed=seed, sharp=1.5)
        model.backbone.final_logits_bias[0, END] = -1.0  # some run into their limit
        ids, mask = sources(lengths, model.n_pieces, seed)
        found = generate([model], ids, mask, beams=3, length_penalty=1.0, most=limits)
        for row, (length, limit) in enumerate(zip(lengths, limits, strict=True)):
            assert len(found[row]) <= limit
            assert found[row] == plain_search([model], ids[row : row + 1, :length], 3, 1.0, limit)


def test_texts_leaves_the_mode_as_it_was(tmp_path: Path) -> None:
    task = sequence_task(train=4, dev=4)
    network = sequence_network(sequence_base(tmp_path), [task], dropout=0.5)
    tokens = network.tokenise("de", {"en": ["the cat", "old town"]})
    network.model.train()
    one = network.texts(tokens, CPU).tolist()
    assert network.model.training
    assert network.texts(tokens, CPU).tolist() == one  # no dropout while it says texts
    assert network.texts(network.tokenise("de", {"en": []}), CPU).tolist() == []


# -- the model ----------------------------------------------------------------------------------


def test_logits_are_transformers_own_without_the_padding_token(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    ids, mask = sources([5, 3], model.n_pieces)
    before = torch.tensor([[model.start, 4, 5, 6], [model.start, 7, 8, 9]])
    places = torch.tensor([[True, True, True, True], [True, False, True, False]])
    with torch.inference_mode():
        found = model(ids, mask, before, places)
        theirs = model.backbone(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=before)
    assert found.shape == (6, model.n_pieces)
    torch.testing.assert_close(found, theirs.logits[places][:, :-1], rtol=1e-5, atol=1e-5)


def test_padding_does_not_change_logits(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    (ids, mask), start, pad = sources([4], model.n_pieces), model.start, model.start
    before = torch.tensor([[start, 5, 6]])
    with torch.inference_mode():
        alone = model(ids, mask, before, torch.ones(1, 3, dtype=torch.bool))
        wide, wide_mask = sources([4, 9], model.n_pieces)
        wide[0, :4] = ids
        both = model(
            wide,
            wide_mask,
            torch.tensor([[start, 5, 6, pad, pad], [start, 4, 3, 2, 1]]),
            torch.tensor([[True] * 3 + [False] * 2, [False] * 5]),
        )
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-5)


def test_the_padding_row_gets_no_gradient_and_stays_zero(tmp_path: Path) -> None:
    model = tiny_model(tmp_path).train()
    table = model.backbone.model.shared.weight
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    ids, mask = sources([4, 7], model.n_pieces)
    before = torch.full((2, 3), model.start)
    for _ in range(3):
        logits = model(ids, mask, before, torch.ones(2, 3, dtype=torch.bool))
        (-logits.log_softmax(-1)[:, 3].sum()).backward()
        assert table.grad is not None
        assert (table.grad[-1] == 0).all()
        assert (table.grad[:-1] != 0).any()
        optimiser.step()
        optimiser.zero_grad()
        assert (table[-1] == 0).all()


def test_one_table_serves_all_three(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    named = dict(model.named_parameters())
    assert sum(p.shape == model.backbone.model.shared.weight.shape for p in named.values()) == 1
    sizes = replace(TINY, layers=2)
    wanted = sizes.n_parameters(model.n_pieces + 1)
    found = fresh_model(sequence_base(tmp_path / "two", architecture=sizes), seed=0)
    assert sum(p.numel() for p in found.parameters()) == wanted


def test_fresh_weights_hang_on_the_seed_alone(tmp_path: Path) -> None:
    base = sequence_base(tmp_path)
    torch.manual_seed(1)
    one = fresh_model(base, seed=3).state_dict()
    torch.manual_seed(2)
    same, other = fresh_model(base, seed=3).state_dict(), fresh_model(base, seed=4).state_dict()
    assert all(torch.equal(one[name], tensor) for name, tensor in same.items())
    assert not torch.equal(one["model.shared.weight"], other["model.shared.weight"])
    assert (one["model.shared.weight"][-1] == 0).all()


def test_dropout_is_set_everywhere_and_off_in_evaluation(tmp_path: Path) -> None:
    base = sequence_base(tmp_path)
    model = fresh_model(base, seed=0, dropout=0.5)
    ids, mask = sources([5], model.n_pieces)
    before, places = torch.full((1, 2), model.start), torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        model.train()
        assert not torch.equal(model(ids, mask, before, places), model(ids, mask, before, places))
        model.noise.reseed(7)
        one = model(ids, mask, before, places)
        model.noise.reseed(7)
        assert torch.equal(model(ids, mask, before, places), one)
        model.eval()
        assert torch.equal(model(ids, mask, before, places), model(ids, mask, before, places))
    assert json.loads(model.config.to_json_string())["dropout"] == 0.5


# -- layers -------------------------------------------------------------------------------------


def test_kept_layers_are_evenly_spaced(tmp_path: Path) -> None:
    model = small(tmp_path, layers=3)
    halves = (model.backbone.model.encoder, model.backbone.model.decoder)
    wanted = [[half.layers[1], half.layers[2]] for half in halves]
    model.keep_layers(2)
    for half, own in zip(halves, wanted, strict=True):
        assert list(half.layers) == own
    assert (model.config.encoder_layers, model.config.decoder_layers) == (2, 2)
    save_model(model, tmp_path / "two")
    again = load_model(tmp_path / "two").eval()
    assert len(again.backbone.model.decoder.layers) == 2
    ids, mask = sources([4, 6], model.n_pieces)
    keys = {"beams": 2, "length_penalty": 1.0, "most": 6}
    found = generate([model], ids, mask, **keys)  # type: ignore[arg-type]
    assert generate([again], ids, mask, **keys) == found  # type: ignore[arg-type]
    for row, length in enumerate((4, 6)):  # the cache knows the layers by their new places
        assert found[row] == plain_search([model], ids[row : row + 1, :length], 2, 1.0, 6)


@pytest.mark.parametrize("layers", [0, 4])
def test_no_more_layers_than_there_are(tmp_path: Path, layers: int) -> None:
    with pytest.raises(BaseModelError, match=rf"(?s)layers: {layers}\n.*1 to 3"):
        small(tmp_path, layers=3).keep_layers(layers)


def test_a_fresh_model_may_have_any_number_of_layers(tmp_path: Path) -> None:
    base = sequence_base(tmp_path)
    for n in (1, 2):
        model = fresh_model(base, seed=0, layers=n)
        assert len(model.backbone.model.encoder.layers) == n
        assert len(model.backbone.model.decoder.layers) == n


# -- files --------------------------------------------------------------------------------------


def test_transformers_reads_what_is_saved(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "base")
    with torch.no_grad():
        model.backbone.final_logits_bias[0, :-1].normal_()
    save_model(model, tmp_path / "saved")
    loaded: Any = MarianMTModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    theirs, report = loaded
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ours = [load_model(tmp_path / "saved").eval(), build_model(tmp_path / "saved" / "config.json")]
    ours[1].load_state_dict(ours[0].state_dict())
    ours[1].eval()
    ids, mask = sources([5, 3], model.n_pieces)
    before, places = torch.tensor([[model.start, 4]] * 2), torch.ones(2, 2, dtype=torch.bool)
    with torch.inference_mode():
        wanted = model(ids, mask, before, places)
        for own in ours:
            assert torch.equal(own(ids, mask, before, places), wanted)
        logits = theirs.eval()(
            input_ids=ids, attention_mask=mask.long(), decoder_input_ids=before
        ).logits
    torch.testing.assert_close(logits[places][:, :-1], wanted, rtol=1e-5, atol=1e-5)


def test_the_state_of_a_model_goes_into_another(tmp_path: Path) -> None:
    one, other = tiny_model(tmp_path, seed=0), tiny_model(tmp_path, seed=1)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(other.state_dict()[n], t) for n, t in one.state_dict().items())
    assert other.backbone.lm_head.weight is other.backbone.model.shared.weight
    state = one.state_dict()
    lost = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match="weights that differ"):
        other.load_state_dict(lost)
    with pytest.raises(ValueError, match="weights that differ"):
        other.load_state_dict(state | {"extra": torch.zeros(1)})


def test_a_network_folder_gives_the_same_texts(tmp_path: Path) -> None:
    tasks = [sequence_task("de", train=4, dev=4), sequence_task("fr", train=4, dev=4)]
    decoding = Decoding(beams=3, length_penalty=0.5)
    network = sequence_network(sequence_base(tmp_path / "base"), tasks, decoding=decoding)
    save_network(network, tmp_path / "network")
    again = load_network(tmp_path / "network")
    assert (again.tasks, again.max_tokens) == (network.tasks, network.max_tokens)
    assert again.decoding == decoding  # type: ignore[union-attr]
    for task in ("de", "fr"):
        inputs = {"en": ["the old cat sang", "green town"]}
        one, other = (n.tokenise(task, inputs) for n in (network, again))
        np.testing.assert_array_equal(one.ids, other.ids)
        assert again.texts(other, CPU).tolist() == network.texts(one, CPU).tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"share_encoder_decoder_embeddings": False}, "its weights lack"),
        ({"pad_token_id": 3}, "whose padding token is not its last piece"),
        ({"encoder_layers": 2}, "its weights lack"),
        ({"d_model": 32}, "cannot load it"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, changes: dict[str, object], got: str) -> None:
    save_model(tiny_model(tmp_path / "base"), tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(BaseModelError, match=got):
        load_model(tmp_path / "saved")


def test_an_architecture_counts_its_parameters() -> None:
    """What `potstill check` says before anything is made."""
    sizes = Architecture(width=32, layers=2, heads=4, feed_forward=64, max_tokens=16)
    backbone = MarianMTModel(sizes.config(50))
    assert sum(p.numel() for p in backbone.parameters()) == sizes.n_parameters(50)


def test_finished_models_have_logits_in_full_precision(tmp_path: Path) -> None:
    model = tiny_model(tmp_path).eval()
    features = torch.randn(5, model.config.d_model)
    exact = model.logits(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.logits(features), exact)
        assert not torch.equal(model.train().logits(features), exact)


def test_a_rate_of_dropout_is_not_attentions(tmp_path: Path) -> None:
    base = sequence_base(tmp_path)
    model = fresh_model(base, seed=0, dropout=0.3)
    rates = {type(m).__name__: m.dropout for m in model.modules() if hasattr(m, "dropout")}
    assert rates.pop("MarianAttention") == 0.0
    assert set(rates.values()) == {0.3}
    assert model.config.dropout == 0.3
