"""The service under load: 8 tasks on one text, against 8 models; overload; many connections.

    python benchmarks/serve.py speed       --folder WORK --out serve.json
    python benchmarks/serve.py overload    --folder WORK --out overload.json
    python benchmarks/serve.py connections --folder WORK --out connections.json

``speed`` runs three servers of the same kind (FastAPI on Granian, one worker, the same number of
threads) in turns: a student with 8 heads behind ``potstill serve``; 8 models of one task each, each
behind ``transformers.pipeline``; 8 int8 ONNX models of one task each, batched by potstill's own
batcher. All are made on the spot from ``minilm`` with fresh heads: what they answer is noise, how
long it takes is not. Texts are the demo's, no two alike. The client runs on the same machine.

``overload`` sends twice of what the student's service can do for 60 seconds, whether or not answers
come (open loop). ``connections`` opens 10,000 at once, in steps, twice.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

N_TASKS = 8
CLASSES = (2, 3, 2, 4, 6, 2, 5, 3)
SIDES = ("student", "int8-models", "pipelines")
HEAD = (
    "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)


def main() -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("experiment", choices=["speed", "overload", "connections"])
    parser.add_argument("--folder", type=Path, required=True, help="for the models")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=20.0, help="speed: of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="speed")
    parser.add_argument("--sides", default=",".join(SIDES), help="speed")
    parser.add_argument("--at-once", type=int, default=32, help="speed: connections at saturation")
    parser.add_argument("--engine", default="onnxruntime-int8", help="the student's")
    parser.add_argument("--minute", type=float, default=60.0, help="overload: seconds")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    make_models(args.folder, args.engine)
    experiment = {"speed": speed, "overload": overload, "connections": connections}
    facts = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "hardware": hardware(),
        "threads": args.threads,
        "engine": args.engine,
        **experiment[args.experiment](args),
    }
    text = json.dumps(facts, indent=1)
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


# -- models ---------------------------------------------------------------------------------------


def make_models(folder: Path, engine: str) -> None:
    """A student of 8 tasks, 8 bundles and 8 classifiers of one task each."""
    if (folder / "made").is_file() and (folder / "made").read_text() == engine:
        return
    from potstill.core.files import seal
    from potstill.core.progress import Progress
    from potstill.demo.grammar import make_rows
    from potstill.export.write import write_bundle
    from potstill.kinds.classification import Classification
    from potstill.students.student import Student
    from potstill.tasks.inputs import TextInputs
    from potstill.tasks.load import load_task
    from potstill.tasks.predictor import TaskHead
    from potstill.training.network import new_network, save_network

    texts = [row.texts[0] for row in make_rows("verdict", "train", 60, 1)]
    kinds = {
        f"task{i}": Classification(classes=tuple(f"class{c}" for c in range(n)))
        for i, n in enumerate(CLASSES)
    }

    def export(names: list[str], name: str, engine: str) -> Student:
        heads = {
            n: TaskHead(kind=kinds[n], inputs=TextInputs(columns=("text",)), metric="accuracy")
            for n in names
        }
        place = folder / f"{name}-student"
        save_network(new_network("minilm", heads, seed=0, max_tokens=128), place)
        seal(place, {"stage": "student"})
        student = Student.load(place, device="cpu", precision="fp32")
        rows = [{"text": t, "label": f"class{i % 2}"} for i, t in enumerate(texts)]
        task = load_task(
            names[0],
            kind="classification",
            columns=("text",),
            label="label",
            options={},
            metric=None,
            train=rows[:40],
            dev=rows[40:],
            test=None,
            pool=[],
            rows=None,
            seed=0,
        )
        shutil.rmtree(folder / name, ignore_errors=True)  # of an attempt with another engine
        write_bundle(
            student.network,
            folder / name,
            name=name,
            student=place,
            splits={names[0]: task.dev},
            engines=[engine],
            max_drop=1.0,
            threads=1,
            packed=None,
            progress=Progress(),
        )
        return student

    student = export(list(kinds), "student", engine)
    for name in kinds:
        export([name], f"bundle-{name}", "onnxruntime-int8")
        student.save_task(name, folder / f"classifier-{name}")
    (folder / "made").write_text(engine)


def make_texts(n: int) -> list[str]:
    """So many different texts."""
    from potstill.demo.grammar import make_rows

    texts: list[str] = []
    for seed in range(10_000):
        for task in ("verdict", "stars"):
            texts += [row.texts[0] for row in make_rows(task, "train", 50, seed + 100)]
        if len(dict.fromkeys(texts)) >= n:
            break
    return list(dict.fromkeys(texts))[:n]


# -- servers --------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server that runs."""

    pid: int
    port: int

    def rss_mb(self) -> float:
        """Resident memory of all its processes."""
        main = psutil.Process(self.pid)
        everyone = [main, *main.children(recursive=True)]
        return float(sum(p.memory_info().rss for p in everyone)) / 2**20


@contextmanager
def server(side: str, args: argparse.Namespace, port: int, *flags: str) -> Iterator[Server]:
    """Start a side's server and stop it again."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    if side == "student":
        command = [str(Path(sys.executable).with_name("potstill")), "serve"]
        command += [str(args.folder / "student"), "--port", str(port)]
        command += ["--threads", str(args.threads), *flags]
    else:
        here = Path(__file__).resolve()
        peer = {"side": side, "folder": str(args.folder.resolve()), "threads": args.threads}
        environment |= {"POTSTILL_PEER": json.dumps(peer), "PYTHONPATH": str(here.parent)}
        code = (
            "from granian import Granian; from granian.constants import Interfaces; "
            f"Granian('serve:make_peer', port={port}, interface=Interfaces.ASGI, factory=True, "
            "workers=1, websockets=False, backlog=4096, backpressure=4096).serve()"
        )
        command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200:
                    break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"the server of side {side} ended") from None
                time.sleep(0.05)
        yield Server(process.pid, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def make_peer() -> Any:
    """The app of a peer's worker process."""
    from potstill.serving.app import create_app
    from potstill.serving.batcher import step_back
    from potstill.serving.predictor import BundlePredictor
    from potstill.serving.server import SWITCH_SECONDS
    from potstill.serving.settings import ServeSettings

    sys.setswitchinterval(SWITCH_SECONDS)
    peer = json.loads(os.environ["POTSTILL_PEER"])
    folder, names = Path(peer["folder"]), [f"task{i}" for i in range(N_TASKS)]
    if peer["side"] == "pipelines":
        return make_pipelines(folder, names, peer["threads"])

    def load(name: str) -> BundlePredictor:
        return BundlePredictor.load(folder / f"bundle-{name}", threads=peer["threads"])

    class EightModels(BundlePredictor):
        """One text to 8 models, one after the other, each batch through all of them."""

        def __init__(self) -> None:
            with ThreadPoolExecutor(1, initializer=step_back) as thread:
                self.models = [thread.submit(load, name).result() for name in names]
            self.__dict__.update(self.models[0].__dict__)
            self._heads = {name: m.heads[name] for name, m in zip(names, self.models, strict=True)}
            self._place = {name: i for i, name in enumerate(names)}

        def run(self, tokens: Any) -> list[Any]:
            return [model.run(tokens)[0] for model in self.models]

    return create_app(EightModels(), ServeSettings(bundle="", deadline=600.0))


def make_pipelines(folder: Path, names: list[str], threads: int) -> Any:
    """8 classifiers behind ``transformers.pipeline``, in a thread, in FastAPI."""
    import torch
    import transformers
    from fastapi import FastAPI

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    pipes = {
        name: transformers.pipeline(
            "text-classification", str(folder / f"classifier-{name}"), top_k=None
        )
        for name in names
    }
    app, pool = FastAPI(), ThreadPoolExecutor(1)

    def answer(texts: list[str]) -> list[dict[str, Any]]:
        found = {name: pipe(texts, batch_size=32) for name, pipe in pipes.items()}
        return [{name: found[name][i] for name in names} for i in range(len(texts))]

    @app.get("/readyz")
    async def readyz() -> str:
        return "ready"

    @app.post("/predict")
    async def predict(body: dict[str, Any]) -> dict[str, Any]:
        texts = [row["text"] for row in body["rows"]]
        rows = await asyncio.get_running_loop().run_in_executor(pool, answer, texts)
        return {"rows": [{"row": i, "tasks": row} for i, row in enumerate(rows)]}

    return app


# -- client ---------------------------------------------------------------------------------------


@dataclass
class Talk:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> Talk:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


def to_requests(texts: list[str]) -> list[bytes]:
    """One request a text, for all tasks."""
    made = []
    for text in texts:
        body = json.dumps({"rows": [{"text": text}]}).encode()
        made.append(HEAD.format(len(body)).encode() + body)
    return made


@dataclass
class Sent:
    """What came back.

    Attributes:
        seconds: Time of each answer with status 200.
        status: Answers by status.
    """

    seconds: list[float] = field(default_factory=list)
    status: dict[int, int] = field(default_factory=dict)

    def note(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.status[status] = self.status.get(status, 0) + 1
        if status == 200:
            self.seconds.append(seconds)

    def quantile(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def closed_loop(port: int, requests: list[bytes], at_once: int, seconds: float) -> Sent:
    """Each connection asks again as soon as it is answered."""
    sent, left = Sent(), iter(requests)
    until = time.perf_counter() + seconds

    async def one() -> None:
        talk = await Talk.open(port)
        while time.perf_counter() < until:
            request = next(left, None)
            if request is None:
                raise RuntimeError("too few texts for this speed")
            start = time.perf_counter()
            status, _, _ = await talk.ask(request)
            sent.note(status, time.perf_counter() - start)
        talk.close()

    await asyncio.gather(*(one() for _ in range(at_once)))
    return sent


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> Sent:
    """Requests at fixed times, whether or not earlier ones were answered."""
    sent, idle = Sent(), list[tuple[Talk, float]]()
    begun = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        # The service hangs up on connections that are idle for as long as a header may take.
        recent = bool(idle) and time.perf_counter() - idle[-1][1] < 2.0
        talk = idle.pop()[0] if recent else await Talk.open(port)
        status, headers, _ = await talk.ask(request)
        if status == 503 and not headers.get("retry-after"):
            status = -503
        sent.note(status, time.perf_counter() - due)
        idle.append((talk, time.perf_counter()))

    tasks = []
    for i in range(int(rate * seconds)):
        due = begun + i / rate
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(one(requests[i % len(requests)], due)))
    await asyncio.gather(*tasks)
    for talk, _ in idle:
        talk.close()
    return sent


# -- experiments ----------------------------------------------------------------------------------


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Answers a second at saturation, and the time of one at a time."""
    requests = to_requests(make_texts(12_000))
    sides = args.sides.split(",")
    found: dict[str, dict[str, list[float]]] = {
        side: {"per_second": [], "p50_ms": [], "mb": []} for side in sides
    }
    for repeat in range(args.repeats):
        for i, side in enumerate(sides):
            flags = ["--deadline", "600"] if side == "student" else []
            with server(side, args, 8300 + 10 * repeat + i, *flags) as running:
                asyncio.run(closed_loop(running.port, requests, args.at_once, 3.0))
                alone = asyncio.run(closed_loop(running.port, requests, 1, args.seconds / 2))
                many = asyncio.run(
                    closed_loop(running.port, requests[::-1], args.at_once, args.seconds)
                )
                if {*alone.status, *many.status} != {200}:
                    raise RuntimeError(f"{side}: {alone.status} {many.status}")
                found[side]["per_second"].append(len(many.seconds) / args.seconds)
                found[side]["p50_ms"].append(alone.quantile(0.5))
                found[side]["mb"].append(running.rss_mb())
                print(side, {k: round(v[-1], 1) for k, v in found[side].items()}, file=sys.stderr)
    ratios = {
        side: {
            key: statistics.median(
                (s / o) if key == "per_second" else (o / s)
                for s, o in zip(found["student"][key], other[key], strict=True)
            )
            for key in ("per_second", "p50_ms")
        }
        for side, other in found.items()
        if side != "student" and "student" in found
    }
    return {"connections": args.at_once, "sides": found, "student_is_better_by": ratios}


def overload(args: argparse.Namespace) -> dict[str, Any]:
    """Twice of what it can do, for a minute."""
    requests = to_requests(make_texts(20_000))
    with server("student", args, 8400) as running:
        at_capacity = asyncio.run(closed_loop(running.port, requests, 16, 8.0))
        rate = 2 * sum(at_capacity.status.values()) / 8.0
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # A process of its own: the client that sends is busy, and would measure itself.
        watching = context.Process(target=watch, args=(running, theirs))
        watching.start()
        theirs.close()  # so that its end is noticed
        ours.recv()
        sent = asyncio.run(open_loop(running.port, requests, rate, args.minute))
        ours.send("done")
        memory, health = ours.recv()
        watching.join()
    third = max(len(memory) // 3, 1)
    return {
        "capacity_per_second": rate / 2,
        "offered_per_second": rate,
        "seconds": args.minute,
        "status": sent.status,
        "answered_per_second": len(sent.seconds) / args.minute,
        "answered_ms": {q: sent.quantile(q) for q in (0.5, 0.9, 0.99)},
        "healthz_ms": {"median": statistics.median(health), "most": max(health)},
        "memory_mb": {
            "first third": statistics.median(memory[:third]),
            "last third": statistics.median(memory[-third:]),
        },
    }


def watch(server: Server, told: Connection) -> None:
    """Memory, and milliseconds of ``/healthz`` on a new connection, twice a second until told."""
    memory, health = [], []
    told.send("ready")
    while not told.poll(0.5):
        memory.append(server.rss_mb())
        start = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=60) as got:
            got.read()
        health.append(1000 * (time.perf_counter() - start))
    told.send((memory, health))


def connections(args: argparse.Namespace) -> dict[str, Any]:
    """So many connections at once, each with one request, twice."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    requests = to_requests(make_texts(2_000))
    rounds = []
    with server("student", args, 8500, "--deadline", "60", "--header-time", "120") as running:
        asyncio.run(closed_loop(running.port, requests, 16, 3.0))

        async def one_round() -> dict[str, Any]:
            talks: list[Talk] = []
            status: dict[int, int] = {}
            start = time.perf_counter()
            while len(talks) < args.connections:
                step = min(500, args.connections - len(talks))
                new = await asyncio.gather(*(Talk.open(running.port) for _ in range(step)))
                answers = await asyncio.wait_for(
                    asyncio.gather(
                        *(t.ask(requests[i % len(requests)]) for i, t in enumerate(new))
                    ),
                    120,
                )
                for code, _, _ in answers:
                    status[code] = status.get(code, 0) + 1
                talks += new
            again = await asyncio.wait_for(
                asyncio.gather(
                    *(t.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") for t in talks)
                ),
                120,
            )
            held = running.rss_mb()
            for talk in talks:
                talk.close()
            await asyncio.sleep(3)
            return {
                "status": status,
                "asked again with all open": sum(code == 200 for code, _, _ in again),
                "seconds": time.perf_counter() - start,
                "mb with all open": held,
                "mb afterwards": running.rss_mb(),
            }

        for _ in range(2):
            rounds.append(asyncio.run(one_round()))
            print(rounds[-1], file=sys.stderr)
    growth = rounds[1]["mb with all open"] / rounds[0]["mb with all open"] - 1
    return {
        "connections": args.connections,
        "rounds": rounds,
        "growth": growth,
    }


def hardware() -> dict[str, Any]:
    """The machine."""
    from potstill.core.device import describe_hardware, resolve_device

    return dict(describe_hardware(resolve_device("cpu")))


if __name__ == "__main__":
    main()
