"""A task of a student that says texts, as an encoder-decoder that transformers loads by itself.

The weights are the student's own. The tokenizer puts the task's token before every text, so whoever
loads it needs to know neither tasks nor tokens.
"""

from __future__ import annotations

from pathlib import Path

from potstill.core.files import read_json, write_json
from potstill.models.pieces import UNKNOWN
from potstill.models.sequence import save_model
from potstill.training.sequence_network import SequenceNetwork


def save_translator(network: SequenceNetwork, task: str, folder: Path) -> Path:
    """Write one task as a folder for ``AutoModelForSeq2SeqLM`` and ``AutoTokenizer``.

    ``generate`` then searches as the student does, but for the length: it stops at the student's
    limit of tokens, the student earlier (:func:`potstill.models.pieces.most_pieces`).

    Args:
        network: The student.
        task: The task to write.
        folder: Created; files of the same names are replaced.
    """
    save_model(network.model, folder)
    file = folder / "generation_config.json"
    search = {
        "num_beams": network.decoding.beams,
        "length_penalty": network.decoding.length_penalty,
        "early_stopping": network.decoding.beams > 1,  # else transformers warns of it
        "max_new_tokens": network.max_tokens,
    }
    facts = read_json(file)
    never = [*facts.get("bad_words_ids", ()), [UNKNOWN]]
    write_json(file, {**facts, **search, "bad_words_ids": never})
    tokenizer = network.tokenizer
    tokenizer.save_for(str(network.tasks[task].kind.token), folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "eos_token": "</s>",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": network.max_tokens,
            "pad_token": tokenizer.padding_token,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokenizer.pieces[UNKNOWN],
        },
    )
    return folder
