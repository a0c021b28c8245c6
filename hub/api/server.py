"""The server process: one hub that works, and its API, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
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

from hub.api.app import create_app
from hub.engine.deployment import Deployment, open_deployment, write_private
from hub.engine.hub import Hub, open_hub
from hub.engine.schedule import Ticker
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.messages import render

GRACE_SECONDS = 3


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve one deployment. Ends with exit code 0, or 1 after one line on stderr."""
    parser = argparse.ArgumentParser(prog="hub serve")
    parser.add_argument("--dir", type=Path, default=Path())
    parser.add_argument("--lang", choices=("zh", "en"), default="en")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    code = 0
    try:
        _serve(options.dir, options.lang, options.host, options.port, options.workers)
    except HubError as error:
        _say(render("cli.error", {"message": error.message(options.lang)}, options.lang))
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # A job that waits for a slow system must not hold up the end: it is durable and goes on later.
    os._exit(code)


def _serve(folder: Path, language: str, host: str | None, port: int | None, workers: int) -> None:
    deployment = open_deployment(folder)
    if workers > 1 and deployment.store_url.startswith("sqlite:"):
        raise ConfigError("serve.workers_sqlite", workers=workers)
    chosen = host or deployment.settings.api.host
    with ExitStack() as stack:
        # Uvicorn ends on these signals and then raises them again: by then we close by ourselves.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        hub = stack.enter_context(open_hub(folder))
        listener = _listen(chosen, deployment.settings.api.port if port is None else port)
        stack.enter_context(listener)
        app = create_app(hub)
        hub.start_jobs()
        stack.enter_context(_ticking(hub))
        stack.enter_context(_workers(folder, workers - 1))
        bound = listener.getsockname()[1]
        stack.enter_context(_announced(deployment, chosen, bound))
        _say(render("serve.address", {"url": f"http://{chosen}:{bound}"}, language))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",  # nothing here speaks WebSocket; the library costs memory
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])
        hub.stopping = True
    _say(render("serve.stopped", {}, language))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError("serve.port_busy", host=host, port=port, reason=reason) from error


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
    command = [sys.executable, "-m", "hub.cli", "--dir", str(folder), "worker"]
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
