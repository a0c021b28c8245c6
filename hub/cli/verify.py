"""`hub flow verify`: what is missing, extra or different in the target of a flow."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hub.cli.face import Face
from hub.cli.running import print_line
from hub.engine.operations import LocalOperations

if TYPE_CHECKING:
    from hub.engine.operations import Operations

Row = dict[str, Any]

SHOWN = 20
KINDS = ("missing", "extra", "different", "duplicate")

_POLL = 0.1
_POLL_REMOTE = 0.3
_PAGE = 1000
_LINE_SECONDS = 5.0


def verify_flow(face: Face, flow: str, *, repair: bool, as_json: bool) -> None:
    """Compare, show progress, list the differences. Raises Failed when there are any."""
    with face.operations() as operations:
        report = _follow(face, operations, operations.start_verify(flow, repair=repair))
        if report["error"] is not None:
            message = face.error_text(report["error"])
            raise face.fail("verify.failed", flow=flow, message=message)
        if as_json:
            _print_lines(operations, report)
        else:
            _print_tables(face, operations, report)
    _judge(face, report)


def _follow(face: Face, operations: Operations, report: Row) -> Row:
    pause = _POLL if isinstance(operations, LocalOperations) else _POLL_REMOTE
    following = time.monotonic() + _LINE_SECONDS
    terminal = sys.stderr.isatty()
    while report["state"] not in ("done", "failed"):
        time.sleep(pause)
        report = operations.verification(report["flow"])
        if time.monotonic() >= following:
            following = time.monotonic() + (1.0 if terminal else _LINE_SECONDS)
            face.say(_progress(face, report))
    return report


def _progress(face: Face, report: Row) -> str:
    state = face.text(f"verify.state_{report['state']}")
    return face.text("verify.progress", flow=report["flow"], state=state, **report["read"])


def _found(operations: Operations, flow: str) -> Iterator[Row]:
    after = 0
    while rows := operations.differences(flow, after, _PAGE):
        yield from rows
        after = rows[-1]["no"]


def _print_lines(operations: Operations, report: Row) -> None:
    import msgspec

    for row in _found(operations, report["flow"]):
        line = {name: value for name, value in row.items() if name != "no"}
        print_line(msgspec.json.encode(line).decode())
    print_line(msgspec.json.encode({"kind": "summary", **report}).decode())


def _print_tables(face: Face, operations: Operations, report: Row) -> None:
    rows = operations.differences(report["flow"], 0, SHOWN)
    if rows:
        table = [
            [
                face.text(f"verify.{one['kind']}"),
                one["key"],
                one["fields"],
                face.text(f"verify.why_{one['reason']}"),
            ]
            for one in rows
        ]
        face.print_table(("difference", "key", "fields", "reason"), table)
    counts = report["counts"]
    names = [name for name in counts if counts[name] or name in ("equal", *KINDS[:3])]
    face.print_table(("flow", *names), [[report["flow"], *(counts[name] for name in names)]])
    if sum(counts[kind] for kind in KINDS) > len(rows):
        face.say(face.text("verify.more", flow=report["flow"], shown=len(rows)))


def _judge(face: Face, report: Row) -> None:
    flow, counts = report["flow"], report["counts"]
    if not report["complete"]:
        face.say(face.text("verify.partial", flow=flow, looked=report["read"]["target"]))
    if report["run_on_its_way"]:
        face.say(face.text("verify.busy", flow=flow))
    if report["repaired"] is not None:
        face.say(face.text("verify.repaired", flow=flow, number=report["repaired"]))
    if any(counts[kind] for kind in KINDS):
        repairable = counts["missing"] or counts["different"]
        code = "verify.differs" if repairable else "verify.differs_extra"
        raise face.fail(code, **{name: counts[name] for name in KINDS}, flow=flow)
    if counts["stopped"]:
        face.say(face.text("verify.stopped_rows", flow=flow, number=counts["stopped"]))
