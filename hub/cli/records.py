"""`hub records …`: the hub's own business objects."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.face import face_of, one_line
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Records the hub keeps itself.", no_args_is_help=True)

Entity = Annotated[str, typer.Argument(metavar="ENTITY")]


@app.command("count")
def count(context: typer.Context, entity: Entity, as_json: AsJson = False) -> None:
    """How many live records an entity has."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.count_records(entity)
    if as_json:
        face.print_json(found)
    else:
        typer.echo(found["count"])


@app.command("list")
def list_records(
    context: typer.Context,
    entity: Entity,
    since: Annotated[
        int,
        typer.Option(
            "--since", min=0, max=2**63 - 1, metavar="N", help="Only changes after number N."
        ),
    ] = 0,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Records in the order of their changes; go on with --since and the last number."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.records(entity, since, limit)
    if as_json:
        face.print_json(found)
        return
    import msgspec

    face.print_table(
        ("change_no", "key", "revision", "data"),
        [
            (
                one["change_no"],
                one["key"],
                one["revision"],
                msgspec.json.encode(one["data"]).decode(),
            )
            for one in found["records"]
        ],
    )


@app.command("show")
def show(
    context: typer.Context,
    entity: Entity,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As listed.")],
    as_json: AsJson = False,
) -> None:
    """One record as it is now, also a deleted one."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.record(entity, key)
    if as_json:
        face.print_json(found)
        return
    import msgspec

    mark = face.text("record.deleted") if found["deleted"] else ""
    typer.echo(
        "  ".join(
            [one_line(found["key"]), str(found["change_no"]), found["changed_at"], mark]
        ).rstrip()
    )
    typer.echo(msgspec.json.format(msgspec.json.encode(found["data"])).decode())
