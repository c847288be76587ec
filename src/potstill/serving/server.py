"""The processes of a service: Granian's workers, each with the whole bundle."""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.core.errors import ArtefactError, ResourceError, UsageError
from potstill.core.parent import Tie
from potstill.export.bundle import read_bundle
from potstill.export.decoders import need_decoder
from potstill.export.engines import need_engine
from potstill.serving.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

_PACKAGES = ("granian", "fastapi", "fastapi_swagger", "prometheus_client")
_ENVIRONMENT = "POTSTILL_SERVE_SETTINGS"
_STANDARD_ERROR = {
    "class": "logging.StreamHandler",
    "formatter": "generic",
    "stream": "ext://sys.stderr",
}
_FILES_A_WORKER = 64  # that are no connections
SWITCH_SECONDS = 0.0005  # for so long a thread holds up the event loop at most
_MOST_CONNECTIONS = 1 << 16  # of a worker


def serve(
    settings: ServeSettings,
    *,
    insecure: bool = False,
    quiet: bool = False,
    announce: Callable[[], object] = lambda: None,
) -> None:
    """Serve a bundle until SIGTERM or Ctrl-C.

    Args:
        settings: Limits and places.
        insecure: Allow another address than loopback without a token.
        quiet: Log warnings and errors only.
        announce: Called when all is checked, before the service starts.

    Raises:
        UsageError: An address that others reach, without a token, or a token that nobody can send.
        ResourceError: A package is missing, the port is taken, or too few files may be open.
        ArtefactError: The bundle is damaged.
    """
    if not _loopback(settings.host) and settings.token is None and not insecure:
        raise UsageError(
            f"--host {settings.host}",
            got="an address that other machines reach, without a token",
            wanted="a token that callers must send",
            todo="set POTSTILL_TOKEN, bind to 127.0.0.1 behind a proxy, or say --insecure",
        )
    if settings.token is not None and (fault := _token_fault(settings.token)):
        raise UsageError(
            "the token",
            got=fault,
            wanted="something that callers can send",
            todo="set POTSTILL_TOKEN to another",
        )
    connections = min(_need_files() - _FILES_A_WORKER, _MOST_CONNECTIONS)
    address = _need_port(settings)
    # What is wrong with the bundle is said here, once, and not by every worker.
    bundle = read_bundle(Path(settings.bundle))
    (need_engine if bundle.decoding is None else need_decoder)(bundle.engine)
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ResourceError(
            "serve",
            got=f"without {', '.join(missing)}",
            wanted=f"{', '.join(_PACKAGES)}",
            todo="pip install 'potstill[serve]'",
        )
    _need_opening(settings.bundle)
    del bundle  # its bytes, which every worker reads for itself
    from granian import Granian  # noqa: PLC0415 (an extra)
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415
    from granian.http import HTTP1Settings  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415

    announce()
    os.environ[_ENVIRONMENT] = settings.to_json()
    # The engine has its threads; other libraries' pools would only be in its way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    counters = tempfile.mkdtemp(prefix="potstill-metrics-")
    if settings.workers > 1:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters
    try:
        Granian(
            "potstill.serving.server:make_app",
            address=address,
            port=settings.port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            factory=True,
            http=HTTPModes.http1,  # HTTP/2 has no limit on slow headers
            websockets=False,
            backlog=4096,
            backpressure=connections,  # more of them wait in the backlog
            http1_settings=HTTP1Settings(header_read_timeout=round(1000 * settings.header_seconds)),
            respawn_failed_workers=True,
            respawn_interval=0.5,
            workers_kill_timeout=_kill_seconds(settings),
            log_level=LogLevels.warning if quiet else LogLevels.info,
            log_dictconfig={"handlers": {"console": _STANDARD_ERROR, "access": _STANDARD_ERROR}},
        ).serve()
    finally:
        shutil.rmtree(counters, ignore_errors=True)


def _need_opening(bundle: str) -> None:
    """Open a bundle once, in a process that ends: an engine's threads do not survive a fork.

    Raises:
        ArtefactError: The engine refuses it, or dies of it.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            process.submit(_open, bundle).result()
        except BrokenProcessPool as error:
            raise ArtefactError(
                f"bundle {bundle}",
                got="a model of which its engine dies on this machine",
                wanted="one that an export wrote",
                todo="export the student here, or with another engine",
            ) from error


def _open(bundle: str) -> None:
    from potstill.serving.predictor import BundlePredictor  # noqa: PLC0415 (in a worker)

    BundlePredictor.load(bundle, threads=1)


def make_app() -> FastAPI:
    """The app of a worker process, with the settings of its parent."""
    from potstill.serving.app import create_app  # noqa: PLC0415 (the parent needs no FastAPI)
    from potstill.serving.batcher import step_back  # noqa: PLC0415
    from potstill.serving.predictor import BundlePredictor  # noqa: PLC0415

    lines = logging.StreamHandler()  # standard error, as all that is no answer
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("potstill")
    logger.handlers, logger.propagate = [lines], False
    logger.setLevel(logging.INFO)
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = ServeSettings.from_json(os.environ[_ENVIRONMENT])

    def leave() -> float:
        os.kill(os.getpid(), signal.SIGTERM)  # as the parent would have stopped it
        return _kill_seconds(settings)

    if (parent := parent_process()) is not None and parent.pid is not None:
        Tie(parent.pid, leave)  # else it would answer, and hold the port, for ever
    # In a thread that steps back: the engine's own threads, which it starts, do so too.
    with ThreadPoolExecutor(1, initializer=step_back) as thread:
        predictor = thread.submit(
            BundlePredictor.load, settings.bundle, threads=settings.threads
        ).result()
    return create_app(predictor, settings)


def _kill_seconds(settings: ServeSettings) -> int:
    """After so long a worker that was told to stop is killed."""
    return round(settings.stop_seconds) + 5


def _token_fault(token: str) -> str | None:
    """Why no caller can send a token; None where they can."""
    if not (token.strip() and token.isprintable()):
        return "only blanks, or a sign that no header can carry"
    if token != token.strip():
        return "a blank at its beginning or end, which headers do not keep"
    return None


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _need_port(settings: ServeSettings) -> str:
    """Say that the port is taken before the workers find out.

    Returns:
        The host's address.
    """
    try:
        where = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(where[0], where[1]) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where[4])
        return str(where[4][0])
    except OSError as error:
        raise ResourceError(
            f"{settings.host}:{settings.port}",
            got=str(error.strerror or error),
            wanted="an address of this machine and a port that is free",
            todo="name another with --host or --port",
        ) from error


def _need_files(wanted: int = 1024) -> int:
    """Raise the limit of open files as far as the system lets us; refuse where it is too low.

    Returns:
        The limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ResourceError(
            "open files",
            got=f"at most {hard}",
            wanted=f"at least {wanted}: each connection is one",
            todo="raise the limit (ulimit -n, LimitNOFILE= of systemd, --ulimit of docker)",
        )
    best = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < best and sys.platform != "darwin":
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
        return best
    return soft
