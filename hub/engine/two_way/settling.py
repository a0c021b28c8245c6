"""Noting what both sides agreed on, in the transaction that settles a write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hub.engine.letters import Problem, problem
from hub.engine.masking import MASK, MaskBook
from hub.engine.sameness import same
from hub.engine.two_way.delivering import Settled, settled_of
from hub.engine.two_way.looking import DISPUTED, STOPPED
from hub.engine.two_way.merge import Conflict
from hub.engine.two_way.pairs import used
from hub.engine.two_way.planning import WRITES, Step
from hub.sdk.body import MISSING
from hub.sdk.records import Op, Receipt, Row
from hub.store import ledger
from hub.store.agreements import put_agreement
from hub.store.audit import append_audit
from hub.store.dead_letters import DeadLetter, DeadLetterKind
from hub.store.deliveries import Intent
from hub.store.ledger import LinkState, NewLink
from hub.store.rows import encode_json
from hub.store.runs import last_run, lock_flow

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_LONGEST = 200

Result = tuple[Intent, Receipt]


def settle_pairs(connection: Connection, results: Sequence[Result]) -> None:
    """Move what the pairs of these writes agree on."""
    found = [(intent, settled_of(receipt), receipt.target_id) for intent, receipt in results]
    pairs = [(intent, one, key) for intent, one, key in found if one is not None]
    for partner_id in sorted({one.look.direction.partner.id for _, one, _ in pairs}):
        lock_flow(connection, partner_id)  # its pages compare themselves with what changes here
    for intent, one, key in sorted(pairs, key=lambda pair: pair[0].source_key):
        _settle(connection, intent, one, key)


def waits_for_a_person(receipt: Receipt) -> bool:
    """Whether the write ends in a letter, although the target did what it was told."""
    found = settled_of(receipt)
    return found is not None and bool(found.plan.stopped or found.plan.merge.disputed)


def letter_for(hub: Hub, intent: Intent, receipt: Receipt) -> DeadLetter:
    """What a person is asked: which value stands, or why the pair stands still."""
    found = settled_of(receipt)
    assert found is not None  # noqa: S101 (`waits_for_a_person` was asked before)
    document = {**found.plan.merge.data}
    masks = MaskBook(hub).of(intent.flow_id)
    problems: list[Problem] = []
    for one in found.plan.merge.conflicts:
        if one.ruling.winner == "nobody":
            document[one.field] = one.source
            problems.append(_asked(found, one, hidden=masks.hides_field(one.field)))
    if found.plan.stopped:
        names = ", ".join(found.plan.stopped)
        problems = [problem(STOPPED, {"sink": intent.sink_ref, "fields": names}, field=names[:120])]
    return DeadLetter(
        kind=DeadLetterKind.DELIVERY,
        flow_id=intent.flow_id,
        run_id=intent.run_id,
        source_key=intent.source_key,
        target_key=intent.target_key,
        problems=problems,
        payload=encode_json(document).decode(),
        attempts=intent.attempts + 1,
        sink_ref=intent.sink_ref,
        revision=intent.revision,
        op=intent.op,
    )


def was_removed(intent: Intent, receipt: Receipt) -> bool:
    """Whether the target's object was deleted: a two-way flow may have decided otherwise."""
    found = settled_of(receipt)
    done = found is None or found.plan.step in (Step.REMOVE, Step.BOTH_GONE)
    return intent.op == Op.DELETE and done


def fate_of(receipt: Receipt) -> str:
    """How a confirmed write counts: where nothing was to be written, nothing was."""
    found = settled_of(receipt)
    return "written" if found is None or found.plan.step in WRITES else "unchanged"


def audit_conflicts(
    hub: Hub, connection: Connection, results: Iterable[Result], now_ms: int
) -> None:
    """Write an entry for every conflict; the last thing of a settlement."""
    book = MaskBook(hub)
    for intent, receipt in results:
        found = settled_of(receipt)
        for one in () if found is None else found.plan.merge.conflicts:
            if one.known:
                continue
            hidden = book.of(intent.flow_id).hides_field(one.field)
            details = {
                "field": one.field,
                "source": MASK if hidden else _brief(one.source),
                "target": MASK if hidden else _brief(one.target),
                "rule": one.ruling.rule,
                "winner": one.ruling.winner,
            }
            subject = f"{intent.flow_id}/{intent.source_key}"[:500]
            append_audit(connection, "hub", "two_way.conflict", subject, details, now_ms)


# --- what both sides agreed on ----------------------------------------------------------------


def _settle(connection: Connection, intent: Intent, one: Settled, other_key: str | None) -> None:
    look, plan, flow_id = one.look, one.plan, intent.flow_id
    if other_key is None or not plan.agrees:
        put_agreement(connection, flow_id, intent.source_key, held_by=None)
        if plan.stopped and look.other_key is not None:
            _note_turns(connection, intent, one, look.other_key)
        return
    direction = look.direction
    gone = plan.step in (Step.REMOVE, Step.BOTH_GONE)
    mine: dict[str, Any] = {"other_key": other_key, "gone": int(gone), "held_by": None}
    theirs: dict[str, Any] = {"other_key": intent.source_key, "gone": int(gone)}
    if look.source is not None and not gone:
        mine["base"] = used(look.source, direction.source_names)
    if one.after is not None and not gone:
        theirs["base"] = _target_base(one)
    disputed = plan.merge.disputed
    put_agreement(
        connection, flow_id, intent.source_key, notes={"disputed": disputed, "sent": {}}, **mine
    )
    put_agreement(connection, direction.partner.id, other_key, **theirs)
    _tell_partner(connection, intent, one, other_key, gone=gone)
    if not gone:
        # The source may have moved on since its page was read: the next one is compared anew.
        ledger.forget_content(connection, flow_id, [intent.source_key])
    if plan.turns or look.released:
        _note_turns(connection, intent, one, other_key)


def _tell_partner(
    connection: Connection, intent: Intent, one: Settled, key: str, *, gone: bool
) -> None:
    """The other direction knows the record from now on, and takes our write for no edit."""
    partner = one.look.direction.partner.id
    link = ledger.links_of(connection, partner, [key]).get(key)
    if link is None:
        if not gone and one.partner_target is not None:
            _mirror(connection, intent, partner, key, one.partner_target)
    elif gone:
        ledger.set_state(connection, partner, key, LinkState.TOMBSTONED)
    elif link.state == LinkState.TOMBSTONED:
        ledger.set_state(connection, partner, key, LinkState.SYNCED)
    else:
        ledger.forget_content(connection, partner, [key])


def _mirror(
    connection: Connection, intent: Intent, partner: str, key: str, target_key: str
) -> None:
    """The partner's link of a record that we made; no read has to have met it for two turns."""
    run = last_run(connection, partner)
    seen = 0 if run is None else run.seen_mark
    synced = LinkState.SYNCED.value
    link = NewLink(partner, key, target_key, intent.source_key, None, None, 1, 1, synced, seen)
    ledger.insert_links(connection, [link])


def _target_base(one: Settled) -> Row:
    """How the target stands now, but for what is still to be brought back to the source."""
    look, after, kept = one.look, one.after or {}, one.plan.merge.kept
    direction, base = look.direction, look.theirs.base
    if look.target is None:
        return used(after, direction.target_names)
    by_name: dict[str, list[str]] = {}
    for field, path in direction.paths.items():
        by_name.setdefault(path.split(".")[0], []).append(field)
    made: Row = {}
    for name in direction.target_names:
        was = MISSING if base is None else base.get(name, MISSING)
        ways = {kept[field] for field in by_name.get(name, ()) if field in kept}
        if "person" in ways:
            continue  # unknown: the other direction brings it over, whatever stood there
        own_edit = not by_name.get(name) and not same(look.target.get(name), _or_none(was))
        value = was if ways - {"nobody"} or own_edit else after.get(name)
        if value is not MISSING:
            made[name] = value
    return made


def _or_none(value: Any) -> Any:
    return None if value is MISSING else value


def _note_turns(connection: Connection, intent: Intent, one: Settled, other_key: str) -> None:
    direction, plan = one.look.direction, one.plan
    notes: dict[str, Any] = {"stopped": plan.stopped}
    if not plan.stopped:
        notes["turns"] = plan.turns
    key = intent.source_key if direction.leads else other_key
    put_agreement(connection, direction.leader.id, key, notes=notes)


def _asked(found: Settled, one: Conflict, *, hidden: bool) -> Problem:
    params = {
        "field": one.field,
        "source": found.look.direction.source.connection,
        "ours": MASK if hidden else _brief(one.source),
        "target": found.look.direction.target.connection,
        "theirs": MASK if hidden else _brief(one.target),
    }
    return problem(DISPUTED, params, field=one.field, value=str(params["ours"]))


def _brief(value: Any) -> Any:
    shown = value if value is None or isinstance(value, bool | int) else str(value)
    return shown[:_LONGEST] if isinstance(shown, str) else shown
