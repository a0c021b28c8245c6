"""`hub inbox …`: what came in by webhook."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hub.cli.face import face_of
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Events that came in by webhook.", no_args_is_help=True)

State = Literal["waiting", "read", "forgotten"]


@app.command("list")
def list_events(
    context: typer.Context,
    connection: Annotated[
        str | None, typer.Option("--connection", help="Only of this connection.")
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="ID", help="Only with this id of the sender's.")
    ] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only these.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Received since: a time, or 24h.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="EVENT", help="Go on behind a page.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Received events, newest first, and whether every flow has read them."""
    face = face_of(context)
    filters = {"connection": connection, "event": event, "state": state, "since": since}
    with face.operations() as operations:
        page = operations.inbox(filters, limit, after)
    if as_json:
        face.print_json(page["items"])
    else:
        face.print_table(
            ("event", "received_at", "state", "size", "event_id"),
            [
                (
                    one["id"],
                    one["received_at"],
                    face.text(f"inbox.{one['state']}"),
                    one["size"],
                    one["event_id"],
                )
                for one in page["items"]
            ],
        )
    if page["next"] is not None:
        face.say(face.text("cli.more", after=page["next"]))


@app.command("show")
def show(
    context: typer.Context,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="As listed.")],
    as_json: AsJson = False,
) -> None:
    """One event as JSON: who has read it, and its body without what must not be read."""
    del as_json
    face = face_of(context)
    with face.operations() as operations:
        found = operations.inbox_event(event)
    face.print_json(found)
