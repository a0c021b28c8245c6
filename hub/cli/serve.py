"""`hub serve` and `hub worker`: processes that stay."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated

import typer

from hub.cli.face import face_of

WAIT_SECONDS = 60.0

Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="SECONDS", help="Wait so long for a database that is away."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `hub`."""
    app.command("serve")(serve)
    app.command("worker")(worker)


def serve(
    context: typer.Context,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            max=64,
            help="Processes that run jobs, this one included (more than 1: PostgreSQL). "
            "0: accept and answer only.",
        ),
    ] = 1,
    host: Annotated[str | None, typer.Option("--host", help="Default: hub.toml.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Default: hub.toml; 0: any.")
    ] = None,
    wait: Wait = WAIT_SECONDS,
) -> None:
    """API, schedules and jobs in one process, until Ctrl-C or SIGTERM."""
    face = face_of(context)
    command = [sys.executable, "-m", "hub.api", "--dir", str(face.folder)]
    command += ["--workers", str(workers), "--wait", str(wait)]
    command += [] if face.chosen_language is None else ["--lang", face.chosen_language]
    command += [] if host is None else ["--host", host]
    command += [] if port is None else ["--port", str(port)]
    # The server is a program of its own (the faces never import each other) and takes this
    # process over: one pid, signals arrive where they belong, and typer's memory is given back.
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 (our own interpreter and module)


def worker(
    context: typer.Context,
    wait: Wait = WAIT_SECONDS,
    projectors: Annotated[
        int | None,
        typer.Option("--projectors", min=0, max=16, help="For telemetry. Default: hub.toml."),
    ] = None,
) -> None:
    """A further process that runs jobs on the same PostgreSQL."""
    from hub.engine.deployment import open_deployment
    from hub.engine.hub import open_hub
    from hub.engine.schedule import Ticker
    from hub.engine.telemetry import projecting
    from hub.sdk.errors import ConfigError
    from hub.store.database import Patience

    face = face_of(context)
    url = open_deployment(face.folder).store_url
    if url.startswith("sqlite:"):
        raise face.fail("worker.sqlite", url=url)

    def waiting(error: ConfigError) -> None:
        reason = error.message(face.language)
        face.say(face.text("worker.waiting", reason=reason, seconds=f"{wait:g}"))

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: done.set())
    with open_hub(face.folder, jobs=True, patience=Patience(wait, waiting)) as hub:
        ticker = Ticker(hub)
        ticker.start()
        face.say(face.text("worker.started", executor=hub.durable.executor_id))
        with projecting(hub.deployment, projectors):
            while not done.wait(3600):
                pass
        ticker.stop()
