"""Texts a second of a student that says texts: CTranslate2 against transformers, same weights.

    python benchmarks/translation_speed.py --student RUN/student --data FILE --rows 1000 \
        --repeats 3 --threads 1 --out results.json

FILE holds a task's source column; with ``--target COLUMN`` BLEU of each side is computed too.
From raw texts to texts, tokenising included, loading excluded, beam search with ``--beams`` (4):

    ctranslate2-int8    what a bundle of the student runs, int8 weights
    ctranslate2-fp32    the same in fp32
    potstill-*          the student's own search in torch: token-budget batches, fp32 and bf16
    transformers-*      MarianMTModel.generate(num_beams=4), batches of 32 in the file's order
    transformers-sorted-*   the same with the longest sources first, so that little is padded

bf16 only where the CPU multiplies it. Every side may say as many pieces of a text. The sides take
turns in one process (A B C A B C ...); ratios are taken within a repeat, then their median. On a
machine in other use the ratio of processor time is the steadier one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import MarianMTModel

from potstill.core.device import Device, describe_hardware, resolve_device
from potstill.core.files import write_json
from potstill.export.decoders import DECODERS, open_decoder
from potstill.metrics.generation import BLEU, signature
from potstill.models.pieces import Decoding, most_pieces
from potstill.models.to_ctranslate import to_ctranslate
from potstill.students.student import Student
from potstill.tasks.sources import column_names
from potstill.tasks.stream import stream_rows
from potstill.training.sequence_network import SequenceNetwork

BATCH, OURS = 32, "ctranslate2-int8"
Say = Callable[[Sequence[str]], list[str]]


def main() -> None:
    """Measure, print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", help="which; the first one unless told")
    parser.add_argument("--target", help="column of the right texts, for BLEU")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of every side; all cores unless told")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    network = Student.load(args.student, device="cpu", precision="fp32").network
    if not isinstance(network, SequenceNetwork):
        raise SystemExit(f"{args.student} says no texts")
    task = args.task or next(iter(network.tasks))
    (source,) = network.tasks[task].inputs.columns
    table = read(args.data, args.rows)
    if args.target is not None and args.target not in table:
        raise SystemExit(f"--target {args.target} is none of {', '.join(table)}")
    texts = table[source]
    decoding = Decoding(beams=args.beams, length_penalty=network.decoding.length_penalty)
    sides = sides_of(network, task, args.student / "encoder", decoding, threads)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    found: dict[str, list[str]] = {}
    for say in sides.values():
        say(texts[: 2 * BATCH])  # what is set up once is nobody's time
    for repeat in range(args.repeats):
        for side, say in sides.items():
            start, busy = time.perf_counter(), time.process_time()
            found[side] = say(texts)
            seconds[side].append(time.perf_counter() - start)
            cpu[side].append(time.process_time() - busy)
            print(f"{repeat} {side}: {len(texts) / seconds[side][-1]:.1f} texts/s", flush=True)
    report(args, threads, len(texts), seconds, cpu, found, table.get(args.target or ""))


def read(file: Path, rows: int) -> dict[str, list[str]]:
    """The first rows of a file, by column."""
    _, table = next(stream_rows(file, columns=column_names(file), chunk_rows=rows))
    return {column: [str(value) for value in values] for column, values in table.items()}


def sides_of(
    network: SequenceNetwork, task: str, encoder: Path, decoding: Decoding, threads: int
) -> dict[str, Say]:
    """Every side by its name, loaded."""
    devices = {"fp32": Device(name="cpu", precision="fp32")}
    if resolve_device("cpu").precision == "bf16":
        devices["bf16"] = Device(name="cpu", precision="bf16")
    sides = {
        engine: ctranslate2_texts(network, task, engine, decoding, threads)
        for engine in (OURS, "ctranslate2-fp32")
    }
    sides |= {f"potstill-{p}": own_texts(network, task, d, decoding) for p, d in devices.items()}
    for precision in devices:
        theirs = transformers_texts(network, task, encoder, decoding, precision)
        sides[f"transformers-{precision}"] = theirs
        sides[f"transformers-sorted-{precision}"] = longest_first(theirs)
    return sides


def ctranslate2_texts(
    network: SequenceNetwork, task: str, engine: str, decoding: Decoding, threads: int
) -> Say:
    """What a bundle runs."""
    files = to_ctranslate(
        network.model, network.tokenizer.pieces, compute_type=DECODERS[engine].compute_type
    )
    decoder = open_decoder(
        engine,
        files,
        network.tokenizer,
        decoding=decoding,
        max_tokens=network.max_tokens,
        threads=threads,
    )
    (column,) = network.tasks[task].inputs.columns

    def say(texts: Sequence[str]) -> list[str]:
        return list(map(str, decoder.texts(network.tokenise(task, {column: texts})).tolist()))

    return say


def own_texts(network: SequenceNetwork, task: str, device: Device, decoding: Decoding) -> Say:
    """The student in torch."""
    (column,) = network.tasks[task].inputs.columns

    def say(texts: Sequence[str]) -> list[str]:
        tokens = network.tokenise(task, {column: texts})
        return list(map(str, network.texts(tokens, device, decoding=decoding).tolist()))

    return say


def transformers_texts(
    network: SequenceNetwork, task: str, encoder: Path, decoding: Decoding, precision: str
) -> Say:
    """The student's folder in transformers, with the search of transformers."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = MarianMTModel.from_pretrained(encoder, dtype=dtype).eval()
    tokenizer = network.tokenizer
    (column,) = network.tasks[task].inputs.columns

    def say(texts: Sequence[str]) -> list[str]:
        tokens, found = network.tokenise(task, {column: texts}), list[str]()
        for start in range(0, len(texts), BATCH):
            rows = np.arange(start, min(start + BATCH, len(texts)))
            ids, mask, _ = tokens.pad(rows, tokenizer.padding)
            said = model.generate(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                num_beams=decoding.beams,
                length_penalty=decoding.length_penalty,
                do_sample=False,
                max_new_tokens=most_pieces(ids.shape[1], network.max_tokens),
            )
            found += tokenizer.decode(said.tolist())
        return found

    return say


def longest_first(say: Say) -> Say:
    """The same with texts sorted by length, so that little is padded."""

    def sorted_say(texts: Sequence[str]) -> list[str]:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found = [""] * len(texts)
        for i, text in zip(order, say([texts[i] for i in order]), strict=True):
            found[i] = text
        return found

    return sorted_say


def report(
    args: argparse.Namespace,
    threads: int,
    n_texts: int,
    seconds: dict[str, list[float]],
    cpu: dict[str, list[float]],
    found: dict[str, list[str]],
    truth: list[str] | None,
) -> None:
    """Print medians, ratios and BLEU, and write them down."""
    ratio, cpu_ratio = ratios(seconds), ratios(cpu)
    right = None if truth is None else np.array(truth, object)
    bleu = {
        side: None if right is None else BLEU.score(right, np.array(texts, object))
        for side, texts in found.items()
    }
    print(f"\n| side | texts/s (median) | {OURS} is faster by | less processor time | BLEU |")
    print("|---|---|---|---|---|")
    for side, taken in seconds.items():
        found_bleu = bleu[side]
        score = "–" if found_bleu is None else f"{100 * found_bleu:.2f}"
        speed = n_texts / statistics.median(taken)
        print(f"| {side} | {speed:.1f} | {ratio[side]:.2f} | {cpu_ratio[side]:.2f} | {score} |")
    facts = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "hardware": {**describe_hardware(resolve_device("cpu")), "threads": threads},
        "transformers": transformers.__version__,
        "texts": n_texts,
        "beams": args.beams,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ratios": ratio,
        "cpu_ratios": cpu_ratio,
        "bleu": bleu,
        "signature": signature("bleu") if right is not None else None,
    }
    print(facts["date"], facts["hardware"])
    if args.out is not None:
        write_json(args.out, facts)


def ratios(taken: dict[str, list[float]]) -> dict[str, float]:
    """How many times ours each side takes: median over the repeats."""
    return {
        side: statistics.median(t / ours for t, ours in zip(times, taken[OURS], strict=True))
        for side, times in taken.items()
    }


if __name__ == "__main__":
    main()
