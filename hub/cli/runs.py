"""`hub runs`: what ran and how it ended."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson, Limit

_COUNTS = ("read", "mapped", "written", "unchanged", "rejected", "held", "skipped", "pending")


def register(app: typer.Typer) -> None:
    """Add the command to `hub`."""
    app.command("runs")(runs)


def runs(
    context: typer.Context,
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="Only this run.")] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="Only runs of this flow.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest runs, newest first, or one run with everything known about it."""
    face = face_of(context)
    with face.operations() as operations:
        if run is not None:
            found = operations.run(run)
            rows = [found]
        else:
            rows = operations.runs(flow, limit)
    if as_json:
        face.print_json(rows if run is None else rows[0])
        return
    face.print_table(
        ("id", "flow", "kind", "state", "started_at", *_COUNTS, "error"),
        [_row(face, one) for one in rows],
    )


def _row(face: Face, run: dict[str, Any]) -> list[object]:
    return [
        run["id"],
        run["flow"],
        face.text(f"kind.{run['kind']}"),
        face.text(f"state.{run['state']}"),
        run["started_at"],
        *(run["counts"][name] for name in _COUNTS),
        face.error_text(run["error"]) if run["error"] else "",
    ]
