"""The encoder equals transformers', whatever is kept, padded, compacted or saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import (
    BertConfig,
    BertModel,
    DebertaConfig,
    DebertaModel,
    DistilBertConfig,
    DistilBertModel,
    EuroBertConfig,
    EuroBertModel,
    FNetConfig,
    FNetModel,
    GPT2Config,
    GPT2Model,
    MambaConfig,
    MambaModel,
    ModernBertConfig,
    ModernBertModel,
    NystromformerConfig,
    NystromformerModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMConfig,
    XLMModel,
)

from potstill.core.errors import BaseModelError
from potstill.models.dropout import Dropout
from potstill.models.encoder import Encoder, Pooling, TokenBatch
from potstill.models.encoder_folder import build_encoder, load_encoder, save_encoder
from potstill.models.multitask import LinearHead, MultiTaskModel
from potstill.models.weights import longest_text
from tests.toys import make_base

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
both_poolings = pytest.mark.parametrize("pooling", ["mean", "cls"])


def batch_of(rows: list[list[int]], length: int | None = None) -> TokenBatch:
    width = length or max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    return TokenBatch(ids=ids, mask=mask, types=torch.zeros_like(ids))


ROWS = [[2, 5, 20, 6, 3], [2, 9, 3], [2, 30, 31, 8, 7, 5, 3]]


@both_poolings
def test_parity_with_transformers(base: Path, pooling: Pooling) -> None:
    encoder = load_encoder(base, pooling=pooling).eval()
    reference = BertModel.from_pretrained(base, add_pooling_layer=False).eval()
    batch = batch_of(ROWS)
    batch = TokenBatch(ids=batch.ids, mask=batch.mask, types=torch.ones_like(batch.ids))
    features = encoder(batch)
    tokens = reference(
        input_ids=batch.ids, attention_mask=batch.mask.long(), token_type_ids=batch.types
    ).last_hidden_state
    torch.testing.assert_close(features.tokens[batch.mask], tokens[batch.mask])
    for i, row in enumerate(ROWS):
        if pooling == "cls":
            wanted = tokens[i, 0]
        else:
            mean = tokens[i, : len(row)].mean(0)
            wanted = (mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(features.pooled[i], wanted, rtol=1e-4, atol=1e-5)


@both_poolings
def test_padding_changes_nothing(base: Path, pooling: Pooling) -> None:
    encoder = load_encoder(base, pooling=pooling).eval()
    tight, loose = batch_of(ROWS), batch_of(ROWS, 40)
    loose.ids[~loose.mask] = 11  # whatever stands under the padding
    torch.testing.assert_close(encoder(loose).pooled, encoder(tight).pooled, rtol=1e-4, atol=1e-5)
    alone = torch.cat([encoder(batch_of([row])).pooled for row in ROWS])
    torch.testing.assert_close(encoder(tight).pooled, alone, rtol=1e-4, atol=1e-5)


def test_the_attention_of_predicting_says_what_the_one_of_training_says(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(base, pooling="mean").eval()
    batch = batch_of(ROWS, 40)
    fused = torch.nn.functional.scaled_dot_product_attention
    calls: list[bool] = []

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(True)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    learnt = encoder(batch)
    assert not calls
    with torch.inference_mode():
        predicted = encoder(batch)
    assert calls
    words = batch.mask.unsqueeze(-1)
    torch.testing.assert_close(
        predicted.tokens * words, learnt.tokens.detach() * words, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(predicted.pooled, learnt.pooled.detach(), rtol=1e-4, atol=1e-5)


def test_dropout_is_everywhere_and_follows_the_seed(base: Path) -> None:
    encoder = load_encoder(base, pooling="mean", dropout=0.25).train()
    assert not any(type(m) is torch.nn.Dropout for m in encoder.modules())
    batch = batch_of(ROWS)
    encoder.noise.reseed(1)
    first = encoder(batch).pooled
    second = encoder(batch).pooled
    encoder.noise.reseed(1)
    assert torch.equal(encoder(batch).pooled, first)
    assert not torch.equal(first, second)
    silent = load_encoder(base, pooling="mean", dropout=0.0).train()
    assert torch.equal(silent(batch).pooled, silent.eval()(batch).pooled)
    own = load_encoder(base, pooling="mean")
    rates = {m.p for m in own.modules() if hasattr(m, "p")}
    assert rates == {0.1}  # the base's own


def test_attention_weights_are_dropped_too(base: Path) -> None:
    encoder = load_encoder(base, pooling="mean", dropout=0.5).train()
    rates = []
    drop = encoder.noise.drop

    def spy(values: torch.Tensor, rate: float) -> torch.Tensor:
        rates.append((values.ndim, rate))
        return drop(values, rate)

    encoder.noise.drop = spy  # type: ignore[method-assign]
    encoder(batch_of(ROWS))
    assert rates.count((4, 0.5)) == 2  # (B, H, T, T) of each layer


@pytest.mark.parametrize(
    ("have", "want", "kept"),
    [(6, 3, [1, 3, 5]), (6, 2, [2, 5]), (6, 1, [5]), (6, 6, [0, 1, 2, 3, 4, 5]), (5, 2, [1, 4])],
)
def test_keeping_layers(tmp_path: Path, have: int, want: int, kept: list[int]) -> None:
    folder = make_base(tmp_path / "base", layers=have)
    whole = load_encoder(folder, pooling="mean")
    cut = load_encoder(folder, pooling="mean", layers=want)
    assert cut.n_layers == want
    assert cut.backbone.config.num_hidden_layers == want
    full, small = whole.backbone.state_dict(), cut.backbone.state_dict()
    for new, old in enumerate(kept):
        name = "attention.self.query.weight"
        assert torch.equal(
            small[f"encoder.layer.{new}.{name}"], full[f"encoder.layer.{old}.{name}"]
        )
    save_encoder(cut, tmp_path / "cut")
    again = load_encoder(tmp_path / "cut", pooling="mean").eval()
    torch.testing.assert_close(
        again(batch_of(ROWS)).pooled, cut.eval()(batch_of(ROWS)).pooled, rtol=0, atol=0
    )


@pytest.mark.parametrize("want", [0, 3])
def test_layers_that_are_not_there(base: Path, want: int) -> None:
    with pytest.raises(BaseModelError, match=r"layers: \d.*\n.*1 to 2"):
        load_encoder(base, pooling="mean", layers=want)


def model_on(base: Path, dropout: float = 0.0) -> MultiTaskModel:
    encoder = load_encoder(base, pooling="mean", dropout=dropout)
    torch.manual_seed(0)
    return MultiTaskModel(encoder, {"t": LinearHead(encoder.n_features, 2)})


def one_step(model: MultiTaskModel, batch: TokenBatch) -> None:
    model.train()
    model.encoder.noise.reseed(3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    outputs = model(batch, ("t",))["t"]
    torch.autograd.backward(torch.nn.functional.cross_entropy(outputs, torch.tensor([0, 1, 1])))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def test_compact_vocabulary_changes_no_number(base: Path) -> None:
    plain, compact = model_on(base, 0.1), model_on(base, 0.1)
    batch = batch_of(ROWS)
    used = np.unique(batch.ids.numpy())
    vocabulary = compact.encoder.compact_vocabulary(used[::-1])
    small = TokenBatch(
        ids=torch.from_numpy(vocabulary.renumber(batch.ids.numpy())),
        mask=batch.mask,
        types=batch.types,
    )
    assert len(vocabulary.kept) < len(vocabulary.full)
    torch.testing.assert_close(
        compact.eval()(small, ("t",))["t"], plain.eval()(batch, ("t",))["t"], rtol=0, atol=0
    )
    one_step(plain, batch)
    one_step(compact, small)
    compact.encoder.expand_vocabulary(vocabulary)
    wanted = plain.state_dict()
    got = compact.state_dict()
    assert list(got) == list(wanted)
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6)
    untouched = np.setdiff1d(np.arange(len(vocabulary.full)), used)
    table = compact.encoder.embedding_parameters()[0]
    assert torch.equal(table[untouched], vocabulary.full[untouched])
    assert not torch.equal(table[used[1:]], vocabulary.full[used[1:]])
    with pytest.raises(ValueError, match="not announced"):
        vocabulary.renumber(np.array([int(untouched[0])]))


@torch.no_grad()
def test_narrow_weights_are_a_copy_that_follows_the_weights(base: Path) -> None:
    encoder = load_encoder(base, pooling="mean").eval()
    batch, names = batch_of(ROWS), set(encoder.state_dict())
    wide = encoder(batch).pooled
    with encoder.weights_in(torch.bfloat16):
        narrow = encoder(batch)
    assert narrow.tokens.dtype == torch.bfloat16
    assert narrow.pooled.dtype == torch.float32
    torch.testing.assert_close(narrow.pooled, wide, atol=0.1, rtol=0)
    assert not torch.equal(narrow.pooled, wide)
    assert torch.equal(encoder(batch).pooled, wide)  # outside the block nothing is changed
    assert set(encoder.state_dict()) == names
    for parameter in encoder.parameters():
        parameter.mul_(0.5)
    with encoder.weights_in(torch.bfloat16):
        later = encoder(batch).pooled
    assert not torch.equal(later, narrow.pooled)
    torch.testing.assert_close(later, encoder(batch).pooled, atol=0.1, rtol=0)
    with torch.inference_mode():
        frozen = load_encoder(base, pooling="mean").eval()
        with frozen.weights_in(torch.bfloat16):
            assert torch.equal(frozen(batch).pooled, narrow.pooled)


@torch.no_grad()
def test_a_thread_that_is_done_takes_narrow_weights_from_no_other(base: Path) -> None:
    encoder = load_encoder(base, pooling="mean").eval()
    batch = batch_of(ROWS)
    mine, other = encoder.weights_in(torch.bfloat16), encoder.weights_in(torch.bfloat16)
    with mine:
        wanted = encoder(batch).pooled
        other.__enter__()
    assert torch.equal(encoder(batch).pooled, wanted)
    other.__exit__(None, None, None)
    assert not torch.equal(encoder(batch).pooled, wanted)


def test_growing_the_vocabulary(base: Path, tmp_path: Path) -> None:
    encoder = load_encoder(base, pooling="mean").eval()
    before = encoder.embedding_parameters()[0].detach().clone()
    pooled = encoder(batch_of(ROWS)).pooled
    n = len(before)
    encoder.grow_vocabulary(n, seed=1)  # nothing to do
    assert torch.equal(encoder.embedding_parameters()[0], before)
    encoder.grow_vocabulary(n + 2, seed=1)
    after = encoder.embedding_parameters()[0]
    assert torch.equal(after[:n], before)
    assert not torch.equal(after[n], after[n + 1])
    assert ((after[n:] - before.mean(0)).abs() <= 6 * before.std(0)).all()
    again = load_encoder(base, pooling="mean")
    again.grow_vocabulary(n + 2, seed=1)
    assert torch.equal(again.embedding_parameters()[0], after)
    torch.testing.assert_close(encoder(batch_of(ROWS)).pooled, pooled, rtol=0, atol=0)
    save_encoder(encoder, tmp_path / "grown")
    again = load_encoder(tmp_path / "grown", pooling="mean")
    assert again.backbone.config.vocab_size == n + 2


def test_save_and_build_round_trip(base: Path, tmp_path: Path) -> None:
    encoder = load_encoder(base, pooling="cls").eval()
    save_encoder(encoder, tmp_path)
    torch.manual_seed(9)
    built = build_encoder(tmp_path / "config.json", pooling="cls").eval()
    built.backbone.load_state_dict(encoder.backbone.state_dict())
    loaded = load_encoder(tmp_path, pooling="cls").eval()
    for other in (built, loaded):
        assert torch.equal(other(batch_of(ROWS)).pooled, encoder(batch_of(ROWS)).pooled)


def tiny(kind: type[PreTrainedModel]) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind is DistilBertModel:
        return DistilBertModel(
            DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
        )
    if kind is RobertaModel:
        return RobertaModel(
            RobertaConfig(
                vocab_size=40,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=12,  # room for ten tokens: the first two are not used
                type_vocab_size=1,
                pad_token_id=1,
            ),
            add_pooling_layer=False,
        )
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    return BertModel(config)


@pytest.mark.parametrize("kind", [DistilBertModel, RobertaModel])
def test_other_architectures(kind: type[PreTrainedModel], tmp_path: Path) -> None:
    reference = tiny(kind).eval()
    reference.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean", dropout=0.3).eval()
    batch = batch_of([[4, 5, 6, 7, 8, 9, 10, 11, 12, 13]])
    torch.testing.assert_close(
        encoder(batch).tokens, reference(input_ids=batch.ids).last_hidden_state
    )
    encoder.train()(batch)  # dropout runs in this architecture too
    encoder.eval()
    used = np.array([4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    before = encoder(batch).pooled
    vocabulary = encoder.compact_vocabulary(used)
    ids = torch.from_numpy(vocabulary.renumber(batch.ids.numpy()))
    small = TokenBatch(ids=ids, mask=batch.mask, types=batch.types)
    assert torch.equal(encoder(small).pooled, before)
    cut = load_encoder(tmp_path, pooling="mean", layers=1)
    assert cut.n_layers == 1
    assert isinstance(cut, Encoder)


def test_the_longest_text_is_what_the_positions_hold(tmp_path: Path) -> None:
    for model, longest in ((tiny(BertModel), 12), (tiny(RobertaModel), 10)):
        folder = tmp_path / model.config.model_type
        model.save_pretrained(folder)
        encoder = load_encoder(folder, pooling="mean").eval()
        assert encoder.max_tokens == longest
        encoder(batch_of([[5] * longest]))
        with pytest.raises((IndexError, RuntimeError)):
            encoder(batch_of([[5] * (longest + 1)]))


def test_a_model_without_positions_has_no_longest_text() -> None:
    model = tiny(BertModel)
    model.config.max_position_embeddings = -1  # as XLNet says it
    assert longest_text(model) is None


def test_a_base_that_is_no_encoder(tmp_path: Path, base: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}', encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(BaseModelError, match="cannot load"):
        load_encoder(tmp_path, pooling="mean")


def test_a_dropout_that_attention_reads_follows_the_rate(tmp_path: Path) -> None:
    """As ModernBERT has it: a number, not a module."""
    config = ModernBertConfig(
        **SMALL,
        pad_token_id=0,
    )
    ModernBertModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean", dropout=0.5)
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, Dropout):
            module.p = 0.0  # so that only the weights of attention are dropped
    drawn = []
    for seed in (1, 1, 2):
        encoder.noise.reseed(seed)
        drawn.append(encoder(batch_of(ROWS)).pooled)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_rates_that_are_numbers_follow_too(tmp_path: Path) -> None:
    """As XLM has them, whose layers have no module for dropout."""
    config = XLMConfig(vocab_size=40, emb_dim=8, n_layers=1, n_heads=2, pad_token_id=0)
    XLMModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean", dropout=0.0).train()
    batch = batch_of(ROWS)
    assert torch.equal(encoder(batch).pooled, encoder(batch).pooled)
    encoder = load_encoder(tmp_path, pooling="mean", dropout=0.5).train()
    drawn = []
    for seed in (1, 1, 2):
        encoder.noise.reseed(seed)
        drawn.append(encoder(batch).pooled)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_keys_that_are_wider_than_values_are_narrowed(tmp_path: Path) -> None:
    """As EuroBERT turns them by its rotary places, in fp32."""
    config = EuroBertConfig(
        **SMALL,
        pad_token_id=0,
    )
    EuroBertModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean", dropout=0.1)
    batch = batch_of(ROWS)
    for training in (True, False):
        encoder.train(training)
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
            assert encoder(batch).pooled.isfinite().all()


def test_the_first_deberta_is_refused_in_bf16_alone(tmp_path: Path) -> None:
    config = DebertaConfig(
        **SMALL,
    )
    DebertaModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean")
    assert encoder(batch_of(ROWS)).pooled.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(BaseModelError, match="DeBERTa"):
        encoder(batch_of(ROWS))


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (
            lambda: FNetModel(
                FNetConfig(
                    vocab_size=40, hidden_size=16, num_hidden_layers=2, initializer_range=0.5
                )
            ),
            "how long the texts beside it are",
        ),
        (
            lambda: MambaModel(
                MambaConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, state_size=4)
            ),
            "its first token sees no other",
        ),
        (
            lambda: NystromformerModel(
                NystromformerConfig(
                    vocab_size=40,
                    hidden_size=8,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    segment_means_seq_len=8,
                    num_landmarks=4,
                    max_position_embeddings=64,
                )
            ),
            "it cannot read six tokens",
        ),
    ],
    ids=["fnet", "mamba", "nystromformer"],
)
def test_models_that_are_no_encoders_of_single_texts(
    tmp_path: Path, model: Callable[[], PreTrainedModel], fault: str
) -> None:
    torch.manual_seed(0)
    model().save_pretrained(tmp_path)
    for pooling in get_args(Pooling):
        with pytest.raises(BaseModelError, match=fault):
            load_encoder(tmp_path, pooling=pooling)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_whose_weights_are_no_numbers(tmp_path: Path, value: float) -> None:
    base = make_base(tmp_path / "base")
    weights = safetensors.torch.load_file(base / "model.safetensors")
    name = min(weights)
    weights[name].view(-1)[0] = value
    safetensors.torch.save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match="weights are not all numbers") as caught:
        load_encoder(base, pooling="mean")
    assert name in caught.value.got


def test_layers_that_differ_are_not_left_out(tmp_path: Path) -> None:
    """ModernBERT's first layer has a norm less, and one in three looks at the whole text."""
    config = ModernBertConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
        pad_token_id=0,
    )
    ModernBertModel(config).save_pretrained(tmp_path)
    assert load_encoder(tmp_path, pooling="mean").n_layers == 6
    assert load_encoder(tmp_path, pooling="mean", layers=6).n_layers == 6
    with pytest.raises(BaseModelError, match="layers that differ"):
        load_encoder(tmp_path, pooling="mean", layers=3)


def test_a_decoder_is_no_encoder(tmp_path: Path) -> None:
    GPT2Model(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    with pytest.raises(BaseModelError, match="its first token sees no other"):
        load_encoder(tmp_path, pooling="cls")


@torch.no_grad()
def test_queries_may_share_keys(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = EuroBertConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        mask_token_id=1,
    )
    reference = EuroBertModel(config).eval()
    reference.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean").eval()
    ids = torch.tensor([[4, 5, 6, 7, 8]])
    wanted = reference(input_ids=ids).last_hidden_state
    torch.testing.assert_close(encoder(batch_of([[4, 5, 6, 7, 8]])).tokens, wanted)
    with torch.enable_grad():
        torch.testing.assert_close(encoder(batch_of([[4, 5, 6, 7, 8]])).tokens, wanted)


@torch.no_grad()
def test_narrow_weights_keep_rotary_angles(tmp_path: Path) -> None:
    config = ModernBertConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
    )
    ModernBertModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, pooling="mean").eval()
    angles = {n: b for n, b in encoder.backbone.named_buffers() if n.endswith("inv_freq")}
    with encoder.weights_in(torch.bfloat16):
        assert encoder(batch_of([[4, 5, 6]])).tokens.dtype == torch.bfloat16
    narrow = encoder._narrow
    assert narrow is not None
    kept = dict(narrow[1].named_buffers())
    assert angles
    assert all(torch.equal(kept[n], angles[n]) for n in angles)
    assert any((b != b.bfloat16().float()).any() for b in angles.values())
