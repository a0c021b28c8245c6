"""The server process: one hub that works, and its API, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import msgspec
import uvicorn
from starlette.types import ASGIApp

from hub.api.behind import Behind
from hub.api.front import open_front
from hub.api.hooks import HookEdge
from hub.api.protocol import Http
from hub.engine.deployment import Deployment, open_deployment, write_private
from hub.engine.hub import Hub, open_hub
from hub.engine.schedule import Ticker
from hub.engine.telemetry import projecting
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.messages import render
from hub.store.database import Patience

GRACE_SECONDS = 3
# A thread that comes back from the database waits this long for one that computes. Python's own
# 5 ms add up to most of the time that an event waits for its commit.
_SWITCH_SECONDS = 0.0005


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve one deployment. Ends with exit code 0, or 1 after one line on stderr."""
    parser = argparse.ArgumentParser(prog="hub serve")
    parser.add_argument("--dir", type=Path, default=Path())
    parser.add_argument("--lang", choices=("zh", "en"))
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--wait", type=float, default=0.0)
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store is no news
    sys.setswitchinterval(_SWITCH_SECONDS)
    code = 0
    try:
        _serve(options)
    except HubError as error:
        language = options.lang or "en"
        _say(render("cli.error", {"message": error.message(language)}, language))
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # A job that waits for a slow system must not hold up the end: it is durable and goes on later.
    os._exit(code)


def _serve(options: argparse.Namespace) -> None:
    deployment = open_deployment(options.dir)
    options.lang = options.lang or deployment.settings.language
    if options.workers > 1 and deployment.store_url.startswith("sqlite:"):
        raise ConfigError("serve.workers_sqlite", workers=options.workers)
    options.host = options.host or deployment.settings.api.host
    port = deployment.settings.api.port if options.port is None else options.port
    with ExitStack() as stack:
        # Uvicorn ends on these signals and then raises them again: by then we close by ourselves.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        hub = stack.enter_context(open_hub(options.dir, patience=_patience(options)))
        front = stack.enter_context(open_front(hub))
        listener = listen(options.host, port)
        stack.enter_context(listener)
        # Asked now: a stop that comes while everything comes up closes the listener.
        port = listener.getsockname()[1]

        def bring_up(parts: ExitStack) -> ASGIApp:
            return _bring_up(parts, hub, options, port)

        def give_up() -> None:
            server.should_exit = True

        behind = Behind(bring_up, give_up)
        edge = HookEdge(front.edge(behind), hub, deployment.settings.language)
        server = uvicorn.Server(server_config(edge))
        behind.start()
        try:
            server.run(sockets=[listener])
        finally:
            hub.stopping = True
            behind.close()
    _say(render("serve.stopped", {}, options.lang))


def _bring_up(parts: ExitStack, hub: Hub, options: argparse.Namespace, port: int) -> ASGIApp:
    """The API, jobs and schedules. Loading all that takes longer than opening the store: events
    are taken from then on."""
    from hub.api.app import create_api

    hub.telemetry.inbox, hub.telemetry.readings  # noqa: B018 (opened now, not by a device)
    api = create_api(hub)
    if options.workers == 0:
        hub.durable.connect()
        _say(render("serve.client_only", {}, options.lang))
    else:
        hub.start_jobs("serve")
        parts.enter_context(_ticking(hub))
        parts.enter_context(projecting(hub.deployment))
        parts.enter_context(_workers(options.dir, options.workers - 1))
    gc.enable()  # `hub.api.__main__` switched it off
    parts.enter_context(_announced(hub.deployment, options.host, port))
    url = f"http://{options.host}:{port}"
    _say(render("serve.address", {"url": url}, options.lang))
    return api


def _patience(options: argparse.Namespace) -> Patience:
    def waiting(error: ConfigError) -> None:
        params: dict[str, object] = {
            "reason": error.message(options.lang),
            "seconds": f"{options.wait:g}",
        }
        _say(render("worker.waiting", params, options.lang))

    return Patience(options.wait, waiting)


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How every server of the hub speaks HTTP."""
    return uvicorn.Config(
        app,
        http=Http,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",  # nothing here speaks WebSocket; the library costs memory
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on. Raises ConfigError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError("serve.port_busy", host=host, port=port, reason=reason) from error
    # Connections inherit it. Asyncio does not see that this is TCP, and head and body of an answer
    # go in two parts: without it the second waits some 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def _ticking(hub: Hub) -> Iterator[None]:
    ticker = Ticker(hub)
    ticker.start()
    try:
        yield
    finally:
        ticker.stop()


@contextmanager
def _announced(deployment: Deployment, host: str, port: int) -> Iterator[None]:
    """Tell the commands of this deployment where to ask while this process owns the store."""
    place = deployment.private_folder / "serve.json"
    told = {"host": host, "port": port, "pid": os.getpid()}
    try:
        deployment.private_folder.mkdir(mode=0o700, exist_ok=True)
        write_private(place, msgspec.json.encode(told).decode())
    except OSError as error:
        raise ConfigError("store.unwritable", file=place, reason=error.strerror) from error
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()


@contextmanager
def _workers(folder: Path, number: int) -> Iterator[None]:
    """Further processes that run jobs on the same PostgreSQL."""
    # On one machine the projectors of this process are enough.
    command = [sys.executable, "-m", "hub.cli", "--dir", str(folder), "worker", "--projectors", "0"]
    processes = [subprocess.Popen(command) for _ in range(number)]  # noqa: S603 (our own program)
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
