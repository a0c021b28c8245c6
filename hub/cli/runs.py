"""`hub runs`: what ran and how it ended."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.balance import balance_line, balance_rows
from hub.cli.face import Face, face_of
from hub.cli.options import AsJson, Limit


def register(app: typer.Typer) -> None:
    """Add the command to `hub`."""
    app.command("runs")(runs)


def runs(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[show] [RUN]", help="Only this run.")
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="Only runs of this flow.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest runs, newest first, or one run with its account and everything known about it."""
    face = face_of(context)
    number = _number(words or [])
    with face.operations() as operations:
        rows = operations.runs(flow, limit) if number is None else [operations.run(number)]
    if as_json:
        face.print_json(rows if number is None else rows[0])
        return
    face.print_table(
        ("id", "flow", "kind", "state", "started_at", "balance", "error"),
        [_row(face, one) for one in rows],
    )
    if number is not None:
        face.print_table(("balance", "count", "message"), balance_rows(face, rows[0]))


def _number(words: list[str]) -> int | None:
    given = words[1:] if words[:1] == ["show"] else words
    if not words:
        return None
    if len(given) != 1 or not given[0].isascii() or not given[0].isdecimal():
        raise typer.BadParameter(f"'{' '.join(words)}' is not the number of a run, such as 12")
    return int(given[0])


def _row(face: Face, run: dict[str, Any]) -> list[object]:
    return [
        run["id"],
        run["flow"],
        face.text(f"kind.{run['kind']}"),
        face.text(f"state.{run['state']}"),
        run["started_at"],
        balance_line(face, run),
        face.error_text(run["error"]) if run["error"] else "",
    ]
