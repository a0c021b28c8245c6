"""`hub workers`: the processes that run jobs."""

from __future__ import annotations

from typing import Any

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the command to `hub`."""
    app.command("workers")(workers)


def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """Every process that runs jobs: where, since when, last heartbeat, version, jobs in hand."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.workers()
    if as_json:
        face.print_json(rows)
        return
    names = ("worker", "kind", "host", "pid", "version", "state", "started_at", "seen_at", "jobs")
    face.print_table(names, [_row(face, one) for one in rows])


def _row(face: Face, one: dict[str, Any]) -> list[object]:
    return [
        one["id"][:8],
        face.text(f"worker_kind.{one['kind']}"),
        one["host"],
        one["pid"],
        one["version"],
        face.text("worker_state.alive" if one["alive"] else "worker_state.dead"),
        one["started_at"],
        one["seen_at"],
        len(one["jobs"]),
    ]
