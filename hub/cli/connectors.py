"""`hub connector …`: what the hub can talk to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.face import Face, face_of, one_line
from hub.cli.options import AsJson

app = typer.Typer(help="Connectors: what the hub can talk to.", no_args_is_help=True)


@app.command("list")
def list_connectors(context: typer.Context, as_json: AsJson = False) -> None:
    """Every connector found, those of the package and those of the deployment."""
    from hub.engine.inspection import connector_rows

    face = face_of(context)
    rows = connector_rows(face.inspection().discovery)
    if as_json:
        face.print_json(rows)
        return
    face.print_table(
        ("name", "version", "title", "streams", "sinks", "ok", "message"),
        [
            (
                row["name"],
                row["version"],
                row["title"][face.language] if row["title"] else "",
                row["streams"],
                row["sinks"],
                row["ok"],
                face.error_text(row["error"]) if row["error"] else "",
            )
            for row in rows
        ],
    )


@app.command("new")
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Small letters, digits and _.")],
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="The address of its API.")
    ] = "https://api.example.com",
    as_json: AsJson = False,
) -> None:
    """Write a connector.yaml and a first flow to edit: no code needed."""
    from hub.cli.scaffold import write_connector

    face = face_of(context)
    made = write_connector(face.folder, name, base_url)
    if as_json:
        face.print_json(made)
        return
    face.say(face.text("connector.created", name=name, file=made["connector_file"]))
    face.say(face.text("connector.flow_created", flow=made["flow"], file=made["flow_file"]))
    face.say(face.text("connector.next", file=made["connector_file"]))
    for command in (f"connection add {name} --connector {name}", f"connector check {name}"):
        face.say(f"  hub {command}")
    face.say(f"  hub flow run {made['flow']}")


@app.command("check")
def check(
    context: typer.Context,
    connection: Annotated[str, typer.Argument(help="A connection of connections.yaml.")],
    as_json: AsJson = False,
) -> None:
    """Try a connection: settings, reachable, login, the first page of every stream. Reads only."""
    face = face_of(context)
    with face.operations() as operations:
        report = operations.check_connection(connection)
    steps: list[dict[str, Any]] = report["steps"]
    if as_json:
        face.print_json(report)
    else:
        for step in steps:
            mark = "✓" if step["ok"] else "✗"
            typer.echo(f"{mark} {step['step']}: {one_line(face.error_text(step))}")
    if not report["ok"]:
        failed = [step for step in steps if not step["ok"]]
        raise face.fail(
            "connector.check_failed",
            connection=connection,
            failed=len(failed),
            steps=len(steps),
            message=face.error_text(failed[0]),
        )


@app.command("lint")
def lint(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    as_json: AsJson = False,
) -> None:
    """Check connector manifests without running any code; exit 1 when one is wrong."""
    from hub.engine.inspection import connector_rows

    face = face_of(context)
    discovery = face.inspection().discovery
    for name in names or []:
        if name not in discovery.broken:
            discovery.get(name)
    rows = [row for row in connector_rows(discovery) if not names or row["name"] in names]
    if as_json:
        face.print_json(rows)
    _tell(face, rows, quiet=as_json)


def _tell(face: Face, rows: list[dict[str, Any]], *, quiet: bool) -> None:
    from hub.cli.face import Failed

    broken = [row for row in rows if not row["ok"]]
    for row in rows:
        if row["ok"] and not quiet:
            typer.echo(face.text("connector.lint_ok", name=row["name"]))
    for row in broken:
        face.complain(face.error_text(row["error"]))
    if broken:
        raise Failed
