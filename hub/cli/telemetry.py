"""`hub telemetry …`: how telemetry fares, and what was quarantined."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson, Limit
from hub.cli.telemetry_queries import register

app = typer.Typer(help="Readings of devices and gateways.", no_args_is_help=True)
register(app)

_TOTALS = ("readings", "late", "duplicates", "restated", "quarantined")


@app.command("status")
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """What waits to be projected; what came per source and gateway."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.telemetry_status()
    if as_json:
        face.print_json(found)
        return
    parts = ("part", "messages", "waiting", "oldest_waiting")
    face.print_table(parts, [tuple(row[name] for name in parts) for row in found["parts"]])
    devices = ("devices_active", "devices_waiting", "devices_refused")
    _print_totals(face, ("source", *devices), found["sources"])
    _print_totals(face, ("gateway", "source", "devices"), found["gateways"])


@app.command("quarantine")
def quarantine(
    context: typer.Context,
    source: Annotated[str | None, typer.Option("--source")] = None,
    sender: Annotated[str | None, typer.Option("--sender", help="Device or gateway.")] = None,
    device: Annotated[str | None, typer.Option("--device")] = None,
    code: Annotated[str | None, typer.Option("--code", help="The reason.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="`next` of the page before.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """What can never become a reading, newest first, with the reason."""
    face = face_of(context)
    filters = {"source": source, "sender": sender, "device": device, "code": code}
    with face.operations() as operations:
        found = operations.quarantine(filters, limit, after)
    if as_json:
        face.print_json(found)
        return
    columns = ("received_at", "source", "sender", "device", "metric", "code", "detail", "sample")
    rows = [[row[name] for name in columns] for row in found["items"]]
    face.print_table(columns, [(*row[:-1], row[-1][:60]) for row in rows])
    if found["next"]:
        face.say(face.text("devices.more", next=found["next"]))


def _print_totals(face: Face, who: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    names = (*who, "seen_at", *_TOTALS)
    cells = [tuple(row[name] for name in names) for row in rows]
    face.print_table((*who, "last_seen", *_TOTALS), cells)
