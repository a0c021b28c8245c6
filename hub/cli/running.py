"""Following a run to its end, and dry runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hub.cli.balance import balance_line
from hub.cli.face import Face
from hub.cli.progress import progress_for
from hub.engine.operations import LocalOperations

if TYPE_CHECKING:
    from hub.engine.operations import Operations

Run = dict[str, Any]

COUNTS = ("read", "mapped", "written", "unchanged", "rejected", "held", "skipped")

_POLL = 0.1
_POLL_REMOTE = 0.5


def run_to_end(
    face: Face,
    flow: str,
    *,
    full: bool,
    wait: float,
    as_json: bool,
    allow_deletes: float | None = None,
) -> None:
    """Start (or go on with) a run, show its progress, print its counts. Raises Failed."""
    with face.operations() as operations:
        run = operations.prepare(flow)
        resumed = run is not None and run["started_at"] is not None
        if isinstance(operations, LocalOperations):
            operations.start_jobs()
        if run is None or allow_deletes is not None:
            run = operations.start_run(flow, full=full, allow_deletes=allow_deletes)
            resumed = run["started_at"] is not None
        _announce(face, run, resumed=resumed)
        run = _follow(face, operations, run, wait)
    _show(face, run, resumed=resumed, as_json=as_json)
    _judge(face, run, wait)


def _announce(face: Face, run: Run, *, resumed: bool) -> None:
    flow, number = run["flow"], run["id"]
    if resumed:
        read = run["counts"]["read"]
        face.say(face.text("run.resumed", flow=flow, run=number, pages=run["pages"], read=read))
    else:
        kind = face.text(f"kind.{run['kind']}")
        face.say(face.text("run.started", flow=flow, run=number, kind=kind))


def _follow(face: Face, operations: Operations, run: Run, wait: float) -> Run:
    pause = _POLL if isinstance(operations, LocalOperations) else _POLL_REMOTE
    until = time.monotonic() + wait
    with progress_for(face, run) as progress:
        while run["state"] not in ("done", "failed") and time.monotonic() < until:
            time.sleep(pause)
            run = operations.run(run["id"])
            progress.show(run)
    return run


def _show(face: Face, run: Run, *, resumed: bool, as_json: bool) -> None:
    if as_json:
        face.print_json({**run, "resumed": resumed})
        return
    counts = run["counts"]
    row = [run["flow"], face.text(f"state.{run['state']}"), *(counts[name] for name in COUNTS)]
    face.print_table(("flow", "state", *COUNTS), [row])
    face.say(face.text("run.balance", run=run["id"], balance=balance_line(face, run)))


def _judge(face: Face, run: Run, wait: float) -> None:
    flow, number, counts = run["flow"], run["id"], run["counts"]
    if look := counts["rejected"] + counts["held"]:
        face.say(face.text("run.look", flow=flow, number=look))
    if run["state"] == "failed":
        code = "run.failed_resumable" if run["resumable"] else "run.failed"
        message = face.error_text(run["error"])
        raise face.fail(code, flow=flow, run=number, pages=run["pages"], message=message)
    if run["state"] != "done":
        state, pending = face.text(f"state.{run['state']}"), counts["pending"]
        raise face.fail(
            "run.still_going", flow=flow, run=number, state=state, seconds=f"{wait:g}",
            pending=pending,
        )  # fmt: skip


def run_dry(face: Face, flow: str, pages: int | None, *, as_json: bool) -> None:
    """Read and map a few pages and show what a run would do."""
    report = face.inspection().dry_run(flow, pages)
    if as_json:
        face.print_json(report)
        return
    import msgspec

    counts = report["counts"]
    names = tuple(counts)
    face.print_table(("flow", "to", *names), [[flow, report["to"], *counts.values()]])
    for record in report["sample"]:
        print_line(msgspec.json.encode(record).decode())
    for decision in report.get("decisions", ()):
        print_line(msgspec.json.encode(decision).decode())
    for problem in report["problems"]:
        print_line(msgspec.json.encode(problem).decode())
    face.say(face.text("run.dry", flow=flow))
    if not report["complete"]:
        face.say(face.text("run.dry_partial", flow=flow, pages=report["pages"]))


def print_line(text: str) -> None:
    """One line of data on standard output."""
    import typer

    typer.echo(text)
