"""`hub dead-letters …`: what a person must look at."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hub.cli.face import face_of
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Records and deliveries that need a look.", no_args_is_help=True)


@app.command("list")
def list_letters(
    context: typer.Context,
    flow: Annotated[str | None, typer.Option("--flow", help="Only of this flow.")] = None,
    state: Annotated[
        Literal["open", "resolved", "all"], typer.Option("--state", help="Which ones.")
    ] = "open",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest dead letters: what stopped, where and why."""
    face = face_of(context)
    with face.operations() as operations:
        rows = operations.dead_letters(flow, None if state == "all" else state, limit)
    if as_json:
        face.print_json(rows)
        return
    face.print_table(
        ("letter", "kind", "flow", "source_key", "field", "message"),
        [
            (
                row["id"][:12],
                row["kind"],
                row["flow_id"],
                row["source_key"],
                row["field_name"],
                row["problems"][0]["message"],
            )
            for row in rows
        ],
    )


@app.command("show")
def show(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(metavar="ID", help="As listed.")],
    as_json: AsJson = False,
) -> None:
    """One dead letter with every problem and the record as it came."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.dead_letter(letter)
    if as_json:
        face.print_json(found)
        return
    import msgspec

    typer.echo(f"{found['id']}  {found['kind']}  {found['flow_id']}  {found['source_key']}")
    for problem in found["problems"]:
        typer.echo(f"  {problem['message']}")
    typer.echo(msgspec.json.format(msgspec.json.encode(found["payload"])).decode())
