"""The service as a process: start, stop, slow callers, a killed worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest

from potstill.core.errors import UsageError
from potstill.core.files import seal
from potstill.serving.server import serve as serve_bundle
from potstill.serving.settings import ServeSettings
from tests.bundles import ToyBundle

POTSTILL = Path(sys.executable).with_name("potstill")
BODY = {"rows": [{"text": "the good film"}]}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def with_files(most: int, command: Sequence[str]) -> list[str]:
    """A command that may have so many files open."""
    return ["bash", "-c", f"ulimit -n {most} && exec {shlex.join(command)}"]


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


class Service:
    """A service that runs.

    Args:
        bundle: What it serves.
        flags: Of the command.
        files: How many it may have open; None for as many as this process.
    """

    def __init__(self, bundle: Path, *flags: str, files: int | None = None) -> None:
        self.port = free_port()
        command = [str(POTSTILL), "serve", str(bundle), "--port", str(self.port), "--threads", "1"]
        command += flags
        if files is not None:
            command = with_files(files, command)
        start = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while self.get("/readyz") != 200:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() - start < 60
            time.sleep(0.05)
        self.seconds_to_ready = time.monotonic() - start

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url(path), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def ask(self, body: object = BODY) -> Any:
        request = urllib.request.Request(
            self.url("/predict"), json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {error.read()!r}") from error

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def talk(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send parts slowly, return what comes back until the other side closes."""
        with self.connection() as talk:
            got = b""
            try:
                for part in parts:
                    talk.sendall(part)
                    time.sleep(pause)
                while more := talk.recv(4096):
                    got += more
            except ConnectionError:
                pass
            return got

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                ends = child.status() == psutil.STATUS_ZOMBIE
                if not ends and not any("resource_tracker" in part for part in child.cmdline()):
                    found.append(child.pid)
        return found

    def stop(self) -> tuple[int, str]:
        """SIGTERM; exit code and standard error."""
        self.process.send_signal(signal.SIGTERM)
        errors = self.process.communicate(timeout=30)[1]
        return self.process.returncode, errors


@pytest.fixture
def serve(toys: ToyBundle) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def start(*flags: str, files: int | None = None) -> Service:
        made.append(Service(toys.done.folder, *flags, files=files))
        return made[-1]

    yield start
    for service in made:
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGSTOP)  # it starts no worker while they are killed
            for child in psutil.Process(service.process.pid).children(recursive=True):
                child.kill()
            service.process.kill()
            service.process.communicate()


def test_it_answers_and_stops_with_0(serve: Callable[..., Service]) -> None:
    service = serve()
    assert "classification" in service.ask()["rows"][0]["tasks"]
    two = b"HEAD /tasks HTTP/1.1\r\nHost: x\r\n\r\n"
    two += b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    first, second, body = service.talk(two).split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
    assert body == b"alive\n"
    code, errors = service.stop()
    assert code == 0, errors
    assert errors.count('"path": "/predict"') == 1
    assert "Traceback" not in errors


def test_slow_callers_are_told_or_dropped(serve: Callable[..., Service]) -> None:
    service = serve("--body-time", "0.5")
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    start = time.monotonic()
    answer = service.talk(head + b"Content-Length: 40\r\n\r\n", b'{"rows"')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"more than 0.5 s" in answer
    assert time.monotonic() - start < 5
    byte_by_byte = [head + b"Content-Length: 40\r\n\r\n", *[b" "] * 40]
    start = time.monotonic()
    service.talk(*byte_by_byte, pause=0.1)
    assert time.monotonic() - start < 5
    assert service.ask()
    assert service.stop()[0] == 0


@pytest.mark.slow
def test_a_header_that_never_ends_is_dropped(serve: Callable[..., Service]) -> None:
    service = serve()
    start = time.monotonic()
    service.talk(b"POST /predict HTTP/1.1\r\nHost: x\r\n", *[b"X-A: 1\r\n"] * 40, pause=0.25)
    assert time.monotonic() - start < 15
    assert service.ask()


def test_a_killed_worker_is_replaced(serve: Callable[..., Service]) -> None:
    service = serve("--workers", "2")
    before = service.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(service.workers()) == 2 and before[0] not in service.workers())
    wait_until(lambda: service.get("/readyz") == 200)  # what had come to the dead one is reset
    assert service.ask()
    assert service.stop()[0] == 0


def test_no_worker_outlives_its_parent(serve: Callable[..., Service]) -> None:
    service = serve("--workers", "2")
    service.process.kill()
    wait_until(lambda: not answers(service.port))
    assert "Traceback" not in service.process.communicate(timeout=30)[1]


def answer_of(caller: http.client.HTTPConnection) -> Any:
    return json.load(caller.getresponse())


def test_accepted_requests_finish_after_sigterm(serve: Callable[..., Service]) -> None:
    service = serve("--deadline", "60")
    rows = [{"text": f"the good film {i} " + "river " * 20} for i in range(300)]
    service.ask()
    body, headers = json.dumps({"rows": rows}).encode(), {"Content-Type": "application/json"}
    callers = [http.client.HTTPConnection("127.0.0.1", service.port, timeout=60) for _ in range(16)]
    for caller in callers:  # all of them are sent before one is answered
        caller.request("POST", "/predict", body, headers)
    with ThreadPoolExecutor(16) as many:
        asked = [many.submit(answer_of, caller) for caller in callers]
        while not any(answer.done() for answer in asked):
            time.sleep(0.001)
        assert sum(answer.done() for answer in asked) < 16
        code, errors = service.stop()
        assert code == 0, errors
        assert all(len(answer.result(60)["rows"]) == 300 for answer in asked)
    for caller in callers:
        caller.close()


def test_more_callers_than_files_wait(serve: Callable[..., Service]) -> None:
    service = serve("--header-time", "60", files=1024)
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this process may not open as many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as many:
        many.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        callers = [many.enter_context(service.connection()) for _ in range(1024)]
        for caller in callers:
            caller.sendall(ask)
        for caller in callers[:900]:
            assert caller.recv(4096).startswith(b"HTTP/1.1 200")
        callers[-1].settimeout(1)
        with pytest.raises(TimeoutError):
            callers[-1].recv(4096)
        for caller in callers[:200]:
            caller.close()
        callers[-1].settimeout(20)
        for caller in callers[900:]:
            assert caller.recv(4096).startswith(b"HTTP/1.1 200")
    code, errors = service.stop()
    assert code == 0
    assert "open files" not in errors


def test_too_few_files_are_named(toys: ToyBundle) -> None:
    command = with_files(500, [str(POTSTILL), "serve", str(toys.done.folder)])
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "at most 500" in found.stderr
    assert "ulimit -n" in found.stderr


def test_a_scrape_knows_all_workers_and_no_dead_one(serve: Callable[..., Service]) -> None:
    service = serve("--workers", "2", "--deadline", "60")

    def batches() -> float:
        try:
            with urllib.request.urlopen(service.url("/metrics"), timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:  # the worker was killed while it answered
            return math.nan
        return float(
            next(line for line in lines if line.startswith("potstill_batches ")).split()[1]
        )

    for _ in range(20):  # whichever worker a connection falls to
        service.ask()
    wait_until(lambda: batches() == 22)  # each has run one to warm up
    for pid in service.workers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: batches() == 2)


def test_a_name_for_loopback(serve: Callable[..., Service]) -> None:
    service = serve("--host", "localhost")
    assert service.ask()
    assert service.stop()[0] == 0


def test_a_blank_token_is_none(toys: ToyBundle) -> None:
    for token in (" ", "a\nb"):
        with pytest.raises(UsageError, match="only blanks, or"):
            serve_bundle(ServeSettings(bundle=str(toys.done.folder), token=token))


@pytest.mark.parametrize("token", [" secret", "secret ", "a secret "])
def test_a_token_with_a_blank_at_an_end_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="a blank at its beginning or end"):
        serve_bundle(ServeSettings(bundle="not looked at", token=token))


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--host", "example.org"]])
def test_other_addresses_need_a_token(toys: ToyBundle, flags: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "POTSTILL_TOKEN"}
    done = subprocess.run(
        [str(POTSTILL), "serve", str(toys.done.folder), *flags],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2
    assert "--insecure" in done.stderr


def test_standard_output_is_one_document(toys: ToyBundle) -> None:
    port = free_port()
    command = [str(POTSTILL), "serve", str(toys.done.folder), "--port", str(port), "--json"]
    said: dict[bool, tuple[str, str]] = {}
    for quiet in (False, True):
        process = subprocess.Popen(
            [*command, *["--quiet"] * quiet],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        wait_until(lambda: answers(port))
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=30)
        said[quiet] = (first + rest, errors)
    assert {out for out, _ in said.values()} == {f'{{"url": "http://127.0.0.1:{port}"}}\n'}
    assert "Started worker" in said[False][1]
    assert said[True][1] == ""


def test_a_port_that_is_taken_is_named(toys: ToyBundle) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [str(POTSTILL), "serve", str(toys.done.folder)]
        command += ["--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "a port that is free" in done.stderr
    assert done.stdout == ""


def test_a_damaged_bundle_is_named_before_anything_starts(toys: ToyBundle, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(POTSTILL), "serve", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no bundle there" in done.stderr


def test_a_bundle_that_the_engine_refuses_is_named_before_anything_starts(
    toys: ToyBundle, tmp_path: Path
) -> None:
    """Whole and unharmed, and of a form that this engine does not know."""
    later = shutil.copytree(toys.done.folder, tmp_path / "later")
    (graph,) = later.glob("*.onnx")
    model = onnx.load(graph)
    for opset in model.opset_import:
        opset.version = 99
    graph.write_bytes(model.SerializeToString())
    seal(later, {})
    done = subprocess.run(
        [str(POTSTILL), "serve", str(later), "--port", str(free_port())],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "it cannot load the graph" in done.stderr
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_the_page_answers_in_a_browser(serve: Callable[..., Service], tmp_path: Path) -> None:
    service = serve()
    row = {"first": "a warm day", "second": "a cold <b>road</b>"}

    def seen(row: dict[str, str]) -> str:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000"]
        command += [service.url("/?" + urllib.parse.urlencode(row))]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=90
        ).stdout

    page = seen(row)
    answer = service.ask({"rows": [row]})["rows"][0]["tasks"]["pair"]
    best = f"{answer['scores'][answer['prediction']]:.3f}"
    assert f"pair<span>{answer['prediction']}</span>" in page
    assert "tasks, one pass of the network for tasks on the same text, " in page
    assert f"<span>{best}</span>" in page
    assert '<p id="fault" role="alert"></p>' in page
    page = seen({"text": "good " * 300})
    assert "tokens: answered without its end.</p>" in page
    assert "classification<span>" in page
