"""`hub subscription …`: who is told of record changes by signed webhooks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from hub.cli.face import Face, face_of, one_line
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Webhooks to subscribers of the hub's records.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As listed.")]
Start = Annotated[
    Literal["beginning", "now"],
    typer.Option("--from", help="Where to begin: with all records there are, or with changes."),
]
Row = dict[str, Any]


@app.command("add")
def add(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to post to, https.")],
    entities: Annotated[
        list[str], typer.Option("--entity", metavar="E", help="What to tell of; repeat for more.")
    ],
    title: Annotated[str | None, typer.Option("--title", help="For people.")] = None,
    start: Start = "now",
    as_json: AsJson = False,
) -> None:
    """Subscribe an endpoint; its signing secret is shown this once."""
    face = face_of(context)
    with face.operations() as operations:
        made = operations.add_subscription(
            url, entities, title, from_beginning=start == "beginning"
        )
    _tell_secret(face, made, "subscription.added", as_json=as_json)


@app.command("list")
def list_subscriptions(context: typer.Context, as_json: AsJson = False) -> None:
    """All subscriptions and how they fare."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.subscriptions()
    if as_json:
        face.print_json(rows)
        return
    columns = ("subscription", "title", "address", "entities", "state", "unsent", "failing_since")
    face.print_table(
        columns,
        [
            (
                row["id"],
                row["title"],
                row["url"],
                row["entities"],
                _state(face, row["state"]),
                row["unsent"],
                row["failing_since"],
            )
            for row in rows
        ],
    )


@app.command("show")
def show(context: typer.Context, subscription: Id, as_json: AsJson = False) -> None:
    """One subscription: its state, and how far it has been told."""
    face = face_of(context)
    with face.operations() as operations:
        row = operations.subscription(subscription)
    _print(face, row, as_json=as_json)


@app.command("edit")
def edit(
    context: typer.Context,
    subscription: Id,
    url: Annotated[str | None, typer.Option("--url", help="A new address.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="A new title.")] = None,
    entities: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="E", help="All it is to be told of; repeat for more."),
    ] = None,
    start: Start = "now",
    as_json: AsJson = False,
) -> None:
    """Change the address, the title or the entities."""
    face = face_of(context)
    given = {"url": url, "title": title, "entities": entities or None}
    changes: Row = {name: value for name, value in given.items() if value is not None}
    _change(face, subscription, {**changes, "from_beginning": start == "beginning"}, as_json)


@app.command("pause")
def pause(context: typer.Context, subscription: Id, as_json: AsJson = False) -> None:
    """Send nothing for now; what changes meanwhile is sent later."""
    _change(face_of(context), subscription, {"state": "paused"}, as_json)


@app.command("resume")
def resume(context: typer.Context, subscription: Id, as_json: AsJson = False) -> None:
    """Send on from where it stood: after a pause, a failure or a 410."""
    _change(face_of(context), subscription, {"state": "active"}, as_json)


@app.command("rotate")
def rotate(
    context: typer.Context,
    subscription: Id,
    keep: Annotated[
        float, typer.Option("--keep-hours", min=0, help="How long the old secret stays valid.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a new signing secret, shown this once; the old one stays valid for a time."""
    face = face_of(context)
    with face.operations() as operations:
        made = operations.rotate_subscription(subscription, keep)
    _tell_secret(face, made, "subscription.rotated", as_json=as_json)


@app.command("remove")
def remove(context: typer.Context, subscription: Id, as_json: AsJson = False) -> None:
    """Forget a subscription with its messages, its log and its secrets."""
    face = face_of(context)
    with face.operations() as operations:
        done = operations.remove_subscription(subscription)
    if as_json:
        face.print_json(done)
    else:
        face.say(face.text("subscription.removed", id=done["id"]))


@app.command("test")
def send_test(context: typer.Context, subscription: Id, as_json: AsJson = False) -> None:
    """Send a test message now and show how that went; exit 1 when it was not taken."""
    face = face_of(context)
    with face.operations() as operations:
        done = operations.test_subscription(subscription)
    if as_json:
        face.print_json(done)
    elif done["ok"]:
        status, took = done["status"], done["took_ms"]
        face.say(face.text("subscription.taken", id=subscription, status=status, took=took))
    if done["answer"] and not as_json:
        typer.echo(one_line(done["answer"]))
    if not done["ok"]:
        message = face.error_text(done["error"])
        raise face.fail("subscription.not_taken", id=subscription, message=message)


@app.command("log")
def log(
    context: typer.Context, subscription: Id, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """The newest tries: when, how long, what came back."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.attempts(subscription, limit)
    if as_json:
        face.print_json(rows)
        return
    face.print_table(
        ("began_at", "message_id", "status", "took_ms", "message", "answer"),
        [
            (
                row["began_at"],
                row["message"],
                row["status"],
                row["took_ms"],
                face.error_text(row["error"]) if row["error"] else "",
                (row["answer"] or "")[:60],
            )
            for row in rows
        ],
    )


@app.command("messages")
def messages(
    context: typer.Context,
    subscription: Id,
    state: Annotated[
        Literal["pending", "sending", "delivered", "failed", "superseded", "all"],
        typer.Option("--state", help="Which ones."),
    ] = "all",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest messages and what became of them."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.messages(subscription, None if state == "all" else state, limit)
    if as_json:
        face.print_json(rows)
        return
    face.print_table(
        ("message_id", "entity", "key", "change_no", "state", "tries", "due_at"),
        [
            (
                row["id"],
                row["entity"],
                row["key"],
                row["change_no"],
                _state(face, row["state"]),
                row["attempts"],
                row["due_at"],
            )
            for row in rows
        ],
    )


@app.command("resend")
def resend(
    context: typer.Context,
    subscription: Id,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="The id of the message.")],
    as_json: AsJson = False,
) -> None:
    """Send a message again under its id."""
    face = face_of(context)
    with face.operations() as operations:
        row = operations.resend(subscription, message)
    if as_json:
        face.print_json(row)
    else:
        face.say(face.text("subscription.resent", message=message))


def _change(face: Face, subscription: str, changes: Row, as_json: bool) -> None:
    with face.operations() as operations:
        row = operations.change_subscription(subscription, changes)
    _print(face, row, as_json=as_json)


def _print(face: Face, row: Row, *, as_json: bool) -> None:
    if as_json:
        face.print_json(row)
        return
    state = _state(face, row["state"])
    typer.echo(
        "  ".join(filter(None, (row["id"], state, row["url"], one_line(row["title"] or ""))))
    )
    for told in row["positions"]:
        typer.echo(f"  {told['entity']}  {told['change_no']} / {told['newest']}")
    counts = face.text("subscription.counts", **{n: row[n] for n in ("sent", "failed", "unsent")})
    typer.echo(f"  {counts}")
    if row["error"]:
        face.complain(face.error_text(row["error"]))


def _tell_secret(face: Face, row: Row, code: str, *, as_json: bool) -> None:
    if as_json:
        face.print_json(row)
        return
    face.say(face.text(code, id=row["id"], url=row["url"]))
    typer.echo(row["secret"])


def _state(face: Face, state: str) -> str:
    return face.text(f"state.{state}")
