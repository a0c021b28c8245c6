"""Opening dead letters: what a person must be told about a record or a write that stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.engine.entries import Entry, payload_text
from hub.engine.flows import Flow
from hub.mapping import FieldProblem, Reference, show_value
from hub.sdk.errors import RecordRejected
from hub.sdk.messages import render
from hub.sdk.records import Receipt
from hub.store.dead_letters import DeadLetter, DeadLetterKind
from hub.store.deliveries import Intent
from hub.store.rows import plain_text

_LONGEST = 200

Problem = dict[str, Any]


def record_letter(flow: Flow, run_id: int, entry: Entry, revision: int) -> DeadLetter:
    """The letter of a row that could not be mapped, or that waits for another record."""
    held = entry.outcome == "held"
    problems = [_field_problem(one) for one in entry.problems]
    problems += [_missing(flow, one) for one in entry.references]
    return DeadLetter(
        kind=DeadLetterKind.HELD if held else DeadLetterKind.RECORD,
        flow_id=flow.id,
        run_id=run_id,
        source_key=entry.source_key,
        target_key=entry.target_key,
        problems=problems or [problem(RecordRejected.code, {"where": flow.id, "reason": "?"})],
        payload=payload_text(entry.row),
        mapping_version=flow.mapping.version,
        sink_ref=flow.target.ref,
        revision=revision,
    )


def write_letter(
    intent: Intent, receipt: Receipt, code: str, kind: DeadLetterKind, *, overtaken: bool = False
) -> DeadLetter:
    """The letter of a write that ended badly."""
    params = {
        "sink": intent.sink_ref,
        "reason": receipt.reason or receipt.code or "no reason given",
        "attempts": intent.attempts + 1,
    }
    return DeadLetter(
        kind=kind,
        flow_id=intent.flow_id,
        run_id=intent.run_id,
        source_key=intent.source_key,
        target_key=intent.target_key,
        problems=[problem(code, params, value=intent.target_key)],
        payload=intent.payload_text,
        attempts=intent.attempts + 1,
        vendor_code=receipt.code[:120] if receipt.code else None,
        sink_ref=intent.sink_ref,
        revision=intent.revision,
        op=intent.op,
        overtaken=overtaken,
    )


def problem(
    code: str, params: Mapping[str, object], *, field: str | None = None, value: str | None = None
) -> Problem:
    """One thing that is wrong, with what it takes to say it in any language."""
    kept = {name: _plain(one) for name, one in params.items()}
    message = plain_text(render(code, dict(kept), "en"))
    return {"field": field, "value": value, "code": code, "message": message, "params": kept}


def _field_problem(found: FieldProblem) -> Problem:
    params = {"value": show_value(found.value), **found.params, "field": found.field}
    value = None if found.value is None else plain_text(str(found.value))[:_LONGEST]
    return problem(found.code, params, field=plain_text(found.field)[:120], value=value)


def _missing(flow: Flow, reference: Reference) -> Problem:
    item, value = reference
    place = flow.target.connection or "hub"
    params = {"item": item, "value": value, "place": place}
    return problem("record.waits", params, value=plain_text(value)[:_LONGEST])


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    return plain_text(str(value))[: 2 * _LONGEST]
