"""A task of a student as a standard transformers classifier, within a thousandth of its outputs.

BERT's classifier reads the first token through a dense layer and a tanh. A student with mean
pooling is said in the same architecture by one more layer, which attends evenly to every token:
its values carry the mean to the first token, scaled so far up that the residual beside it is lost
in rounding, and its layer norm is the student's own (without parameters). The tanh is passed in
its linear part. So no weight is trained and no code is needed to load it.

Heads that answer at words need none of this: BERT's token classifier and its question answerer read
the tokens themselves, the first one of each word.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from potstill.core.errors import UsageError
from potstill.core.files import write_bytes, write_json, write_text
from potstill.kinds import Kind
from potstill.models.multitask import LinearHead
from potstill.models.weights import tensors_to_bytes
from potstill.training.network import Network

_AT_WORDS = {"words": "BertForTokenClassification", "passage": "BertForQuestionAnswering"}
_LINEAR = 1e-3  # tanh(x) = x within 3e-7 relative for |x| below this
_LOUD = 1e4  # how far the mean is scaled over the residual


def save_classifier(network: Network, task: str, folder: Path) -> Path:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer of one task.

    Args:
        network: The student.
        task: The task to write.
        folder: Created; files of the same names are replaced.

    Raises:
        UsageError: The student's encoder is not a BERT, the task uses a task token, or its kind's
            outputs are none that transformers has a model for.
    """
    kind = network.tasks[task].kind
    if vars(type(kind)).get("problem_type") is None:  # not what its parents say of their outputs
        raise UsageError(
            f"task '{task}' as a transformers classifier",
            got=f"kind '{kind.name}', which names no `problem_type`",
            wanted="outputs that transformers reads as its own models' outputs",
            todo="use the student's own folder or a bundle, which know the kind",
        )
    head = network.model.head(task)
    backbone = network.model.encoder.backbone
    if not isinstance(backbone, BertModel) or not isinstance(head, LinearHead):
        raise UsageError(
            f"task '{task}' as a transformers classifier",
            got=f"an encoder of type {type(backbone).__name__}",
            wanted="a BERT encoder (MiniLM is one)",
            todo="use the student's own folder, which any task can be served from",
        )
    if network.task_token:
        raise UsageError(
            f"task '{task}' as a transformers classifier",
            got="a student with task tokens",
            wanted="one that reads plain text",
            todo="train it with `student: {task_token: false}`",
        )
    config: BertConfig = copy.deepcopy(backbone.config)
    classes = kind.class_names or tuple(f"LABEL_{i}" for i in range(kind.n_outputs))
    if kind.class_names or kind.n_outputs > 1:
        config.id2label = dict(enumerate(classes))
    else:
        config.id2label = {0: "value"}
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.num_labels = len(config.id2label)
    if not kind.slotted:
        config.update({"problem_type": kind.problem_type})
    config.update(kind.tuned)
    tensors = {f"bert.{k}": v.cpu() for k, v in backbone.state_dict().items()}
    if kind.slotted:
        config.architectures = [_AT_WORDS[kind.reads]]
        name = "qa_outputs" if kind.reads == "passage" else "classifier"
        tensors |= {
            f"{name}.weight": head.linear.weight.detach().cpu(),
            f"{name}.bias": head.linear.bias.detach().cpu(),
        }
    else:
        config.architectures = ["BertForSequenceClassification"]
        tensors |= _on_the_mean(network, config, head, kind)
    write_text(folder / "config.json", config.to_json_string())
    write_bytes(folder / "model.safetensors", tensors_to_bytes(tensors))
    network.tokenizer.save(folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "model_max_length": network.max_tokens,
            "pad_token": network.tokenizer.padding_token,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    return folder


def _on_the_mean(
    network: Network, config: BertConfig, head: LinearHead, kind: Kind
) -> dict[str, Tensor]:
    """What BERT's sequence classifier needs beside the encoder; adds a layer to ``config``."""
    config.num_hidden_layers += network.pooling == "mean"
    tensors: dict[str, Tensor] = {}
    d, eye = config.hidden_size, torch.eye(config.hidden_size)
    if network.pooling == "mean":
        tensors |= _averaging_layer(config.num_hidden_layers - 1, d, config.intermediate_size)
    scale, shift = kind.output_line()
    tensors |= {
        "bert.pooler.dense.weight": eye * _LINEAR,
        "bert.pooler.dense.bias": torch.zeros(d),
        "classifier.weight": head.linear.weight.detach().cpu() * (scale / _LINEAR),
        "classifier.bias": head.linear.bias.detach().cpu() * scale + shift,
    }
    return tensors


def _averaging_layer(index: int, d: int, d_inner: int) -> dict[str, Tensor]:
    """A BERT layer that puts the normalised mean of all tokens in every place."""
    eye, zero = torch.eye(d), torch.zeros(d)
    dense = {
        "attention.self.query": (torch.zeros(d, d), zero),
        "attention.self.key": (torch.zeros(d, d), zero),
        "attention.self.value": (eye, zero),
        "attention.output.dense": (eye * _LOUD, zero),
        "attention.output.LayerNorm": (torch.ones(d), zero),
        "intermediate.dense": (torch.zeros(d_inner, d), torch.zeros(d_inner)),
        "output.dense": (torch.zeros(d, d_inner), zero),
        "output.LayerNorm": (torch.ones(d), zero),
    }
    prefix = f"bert.encoder.layer.{index}."
    return {
        f"{prefix}{name}.{part}": tensor.clone()  # safetensors refuses tensors that share memory
        for name, pair in dense.items()
        for part, tensor in zip(("weight", "bias"), pair, strict=True)
    }
