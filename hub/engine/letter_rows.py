"""Dead letters as every face shows them: both languages, and nothing that is masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.engine.masking import MASK, MaskBook, Masks
from hub.sdk.messages import LANGUAGES, render, templates
from hub.store.dead_letters import SOURCE_KINDS
from hub.store.letter_queries import Place
from hub.store.rows import decode_exact, decode_json, from_ms

Row = dict[str, Any]

_PLAIN = (
    "id",
    "kind",
    "state",
    "flow_id",
    "run_id",
    "sink_ref",
    "source_key",
    "target_key",
    "op",
    "revision",
    "field_name",
    "error_code",
    "vendor_code",
    "attempts",
    "mapping_version",
    "closed_how",
    "closed_by",
    "replay_id",
)
_TIMES = ("created_at", "opened_at", "updated_at")


def letter_row(letter: Mapping[str, Any], book: MaskBook) -> Row:
    """A dead letter with its payload as people may see it."""
    masks = book.of(letter["flow_id"])
    of_source = letter["kind"] in SOURCE_KINDS
    payload = _decoded(letter["payload_text"])
    edited = _decoded(letter["edited_text"])
    hidden = [
        *masks.hidden_values(payload, of_source=of_source),
        *masks.hidden_values(edited, of_source=of_source),
    ]
    stored: list[Row] = decode_json(letter["problems_text"])
    problems = [_problem(one, masks, hidden) for one in stored]
    return {
        **{name: letter[name] for name in _PLAIN},
        "value": problems[0]["value"],
        "reason": problems[0]["messages"],
        "problems": problems,
        "payload_ref": f"dead-letters/{letter['id']}",
        "payload": masks.hide(payload, of_source=of_source),
        "edited": masks.hide(edited, of_source=of_source),
        "note": letter["note_text"],
        **{name: iso_ms(letter[name]) for name in _TIMES},
        "cursor": str(Place(letter["opened_at"], letter["id"])),
    }


def iso_ms(moment: int | None) -> str | None:
    """A stored time in ISO 8601."""
    found = from_ms(moment)
    return None if found is None else found.isoformat().replace("+00:00", "Z")


def _problem(stored: Row, masks: Masks, hidden: list[str]) -> Row:
    value = stored["value"]
    marked = masks.hides_field(stored["field"])
    if marked and value is not None:
        hidden = [str(value), *hidden]
    messages = {
        language: masks.clean(_message(stored, language, marked=marked), hidden)
        for language in LANGUAGES
    }
    shown = MASK if marked and value is not None else value
    return {
        "field": stored["field"],
        "value": masks.clean(shown, hidden) if isinstance(shown, str) else shown,
        "code": stored["code"],
        "message": messages["en"],
        "messages": messages,
    }


def _message(stored: Row, language: str, *, marked: bool) -> str:
    """What is wrong, in words. Letters of an older release kept only the English ones."""
    params = stored.get("params")
    if params is None or stored["code"] not in templates(language):
        return MASK if marked else str(stored["message"])
    if marked:
        # A marked value may be quoted in any of them, in part or as something else.
        kept = {name: one for name, one in params.items() if not isinstance(one, str)}
        params = {**dict.fromkeys(params, MASK), **kept, "field": stored["field"]}
    return render(stored["code"], params, language)


def _decoded(text: str | None) -> Any:
    return decode_exact(text) if text else None
