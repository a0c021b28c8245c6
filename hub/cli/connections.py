"""`hub connection …`: the accounts of outside systems."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson

app = typer.Typer(help="Accounts of outside systems.", no_args_is_help=True)


@app.command("list")
def list_connections(context: typer.Context, as_json: AsJson = False) -> None:
    """The configured accounts and whether each is complete."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.connections()
    if as_json:
        face.print_json(rows)
        return
    face.print_table(
        ("name", "connector", "base_url", "ok", "breaker", "message"),
        [
            (
                row["name"],
                row["connector"],
                row["base_url"],
                row["ok"],
                _breaker_text(face, row["breaker"]),
                face.error_text(row["error"]) if row["error"] else "",
            )
            for row in rows
        ],
    )


def _breaker_text(face: Face, breaker: dict[str, Any] | None) -> str:
    if breaker is None:
        return ""
    return face.text("connection.breaker", until=breaker["until"], reason=breaker["reason"] or "")


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The connection's name in flows.")],
    connector: Annotated[str, typer.Option("--connector", help="See `hub connector list`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting; repeat for more."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add an account to connections.yaml. A secret is env:NAME, file:PATH or store."""
    from hub.cli.connections_file import add_connection

    face = face_of(context)
    inspection = face.inspection()
    added = add_connection(inspection, face.folder, name, connector, settings or [])
    if as_json:
        face.print_json(added)
        return
    face.say(face.text("connection.added", name=name, file=added["file"]))
    if added["open"]:
        face.say(face.text("connection.open_next", name=name, file=added["file"]))
        return
    for field in added["stored_secrets"]:
        face.say(face.text("connection.secret_next", name=name, field=field))
    face.say(face.text("connection.check_next", name=name))


@app.command("set-secret")
def set_secret(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The connection.")],
    field: Annotated[str, typer.Argument(help="The setting that is secret.")],
    as_json: AsJson = False,
) -> None:
    """Keep a secret encrypted in the store; it is read from standard input, never from options."""
    face = face_of(context)
    value = _read_secret(face, name, field)
    with face.operations() as operations:
        done = operations.set_secret(name, field, value, actor=face.actor)
    if as_json:
        face.print_json(done)
    else:
        face.say(face.text("connection.secret_stored", connection=name, field=field))


def _read_secret(face: Face, name: str, field: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.read().strip("\r\n")
    prompt = face.text("connection.secret_prompt", connection=name, field=field)
    return str(typer.prompt(prompt, hide_input=True, err=True))
