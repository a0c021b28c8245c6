"""`hub flow …`: what goes where, and running it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.face import Face, Failed, face_of
from hub.cli.options import AsJson

FlowName = Annotated[str, typer.Argument(metavar="FLOW")]

app = typer.Typer(help="Flows: what goes where.", no_args_is_help=True)


@app.command("list")
def list_flows(context: typer.Context, as_json: AsJson = False) -> None:
    """Every flow found, and whether its connections are configured."""
    from hub.engine.inspection import flow_rows

    face = face_of(context)
    inspection = face.inspection()
    paused = inspection.paused_flows()
    rows = [
        row | {"paused": row["flow"] in paused}
        for row in flow_rows(inspection.deployment, inspection.catalogue)
    ]
    if as_json:
        face.print_json(rows)
        return
    if not rows:
        face.say(face.text("flow.none"))
        return
    names = ("flow", "from", "to", "schedule", "ready", "paused")
    face.print_table(
        (*names, "message"),
        [
            (*(row[name] for name in names), face.error_text(row["error"]) if row["error"] else "")
            for row in rows
        ],
    )


@app.command("lint")
def lint(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[FLOW]...")] = None,
    as_json: AsJson = False,
) -> None:
    """Check flows, their mappings and the tests inside them; exit 1 when one is wrong."""
    face = face_of(context)
    inspection = face.inspection()
    for name in names or []:
        if name not in inspection.catalogue.names:
            inspection.catalogue.flow(name)
    rows = [inspection.lint_flow(name) for name in names or inspection.catalogue.names]
    if as_json:
        face.print_json(rows)
    else:
        _tell(face, rows)
    if broken := sum(not row["ok"] for row in rows):
        if as_json or len(rows) > 1:
            raise face.fail("flow.lint_failed", broken=broken, flows=len(rows))
        raise Failed


def _tell(face: Face, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["ok"]:
            typer.echo(face.text("flow.lint_ok", flow=row["flow"]))
        for problem in row["problems"]:
            face.complain(f"{row['flow']}: {face.error_text(problem)}")
        for warning in row["warnings"]:
            message = f"{row['flow']}: {face.error_text(warning)}"
            face.say(face.text("cli.warning", message=message))


@app.command("explain")
def explain(
    context: typer.Context,
    flow: Annotated[str, typer.Argument(metavar="FLOW")],
    field: Annotated[str | None, typer.Option("--field", help="Only this target field.")] = None,
    as_json: AsJson = False,
) -> None:
    """Where each target field comes from: source fields, steps, lookup tables."""
    face = face_of(context)
    report = face.inspection().explain(flow, field)
    if as_json:
        face.print_json(report)
        return
    typer.echo(f"{report['from']} → {report['to']}")
    names = ("field", "sources", "steps", "lookups")
    face.print_table(names, [[one[name] for name in names] for one in report["fields"]])


@app.command("pause")
def pause(context: typer.Context, flow: FlowName, as_json: AsJson = False) -> None:
    """Let the schedule leave the flow alone; `hub flow run` still runs it."""
    _pause(face_of(context), flow, paused=True, as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, flow: FlowName, as_json: AsJson = False) -> None:
    """Let the schedule start the flow again; what the pause missed is not made up for."""
    _pause(face_of(context), flow, paused=False, as_json=as_json)


def _pause(face: Face, flow: str, *, paused: bool, as_json: bool) -> None:
    with face.operations() as operations:
        found = operations.pause_flow(flow, paused=paused)
    if as_json:
        face.print_json(found)
    else:
        face.say(face.text("flow.paused" if paused else "flow.resumed", flow=flow))


@app.command("run")
def run(
    context: typer.Context,
    flow: Annotated[str, typer.Argument(metavar="FLOW")],
    full: Annotated[
        bool, typer.Option("--full", help="Read everything, not only changes.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and map a few pages, write nothing.")
    ] = False,
    pages: Annotated[int, typer.Option("--pages", min=1, help="Pages of a dry run.")] = 1,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Give up waiting after this.")
    ] = 600.0,
    allow_deletes: Annotated[
        str | None,
        typer.Option(
            "--allow-deletes",
            metavar="PERCENT",
            help="Read everything; this share of the records may be gone, this once.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a flow to its end with a progress bar; an unfinished run goes on where it stopped."""
    from hub.cli.running import run_dry, run_to_end

    face = face_of(context)
    share = _share(allow_deletes)
    if dry_run:
        run_dry(face, flow, None if full else pages, as_json=as_json)
    else:
        run_to_end(face, flow, full=full, allow_deletes=share, wait=wait, as_json=as_json)


def _share(text: str | None) -> float | None:
    """The number in `40%` or `40`."""
    if text is None:
        return None
    try:
        share = float(text.strip().removesuffix("%"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise typer.BadParameter(f"--allow-deletes {text} is not a share such as 40%")
    return share


@app.command("verify")
def verify(
    context: typer.Context,
    flow: Annotated[str, typer.Argument(metavar="FLOW")],
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Let the next run write what is missing or different."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line per difference, a summary at the end.")
    ] = False,
) -> None:
    """Compare source and target record by record; exit 1 when they differ. Writes to neither."""
    from hub.cli.verify import verify_flow

    verify_flow(face_of(context), flow, repair=repair, as_json=as_json)
