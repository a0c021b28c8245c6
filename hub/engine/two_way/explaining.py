"""What a two-way flow would decide about rows, told without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.engine.flows import Catalogue
from hub.engine.two_way.echoes import is_echo
from hub.engine.two_way.looking import Look, look_at, made_from, mapped, paired_key, sides_of
from hub.engine.two_way.pairs import Direction, used
from hub.engine.two_way.planning import Plan, Step, plan_removal, plan_write
from hub.sdk.records import Row
from hub.sdk.sinks import SinkWriter
from hub.store.agreements import NONE, load_agreements
from hub.store.database import Store
from hub.store.rows import decode_json, encode_json

_MOST_LOOKS = 20


@dataclass(frozen=True, slots=True)
class Known:
    """The flows of a deployment and its store."""

    catalogue: Catalogue
    store: Store


@dataclass(frozen=True, slots=True)
class Explainer:
    """Looks at pairs as a delivery would."""

    known: Known
    direction: Direction
    sink: SinkWriter
    now: datetime

    def decisions(self, rows: Sequence[tuple[str, Row]], most: int) -> list[dict[str, Any]]:
        """The decisions about the first rows for which something is to be done or left alone.

        Rows that both sides agreed on are no reason to look; at most 20 pairs are looked at.
        """
        found: list[dict[str, Any]] = []
        for key, row in self._new(rows)[:_MOST_LOOKS]:
            if len(found) == most:
                break
            look = self._look(key, row)
            plan = self._plan(look)
            if plan.step is not Step.SAME or plan.merge.kept:
                found.append(_told(look, plan))
        return found

    def _new(self, rows: Sequence[tuple[str, Row]]) -> list[tuple[str, Row]]:
        names, flow_id = self.direction.source_names, self.direction.flow.id
        with self.known.store.reading() as connection:
            agreed = load_agreements(connection, flow_id, [key for key, _ in rows])
        return [
            (key, row) for key, row in rows if not is_echo(used(row, names), agreed.get(key, NONE))
        ]

    def _look(self, key: str, row: Row) -> Look:
        other = paired_key(self.known, self.direction, key)
        other = other or made_from(self.known, self.direction, row)
        target = None if other is None else self.sink.show(other)
        return look_at(self.known, self.direction, key, other, row, target, None)

    def _plan(self, look: Look) -> Plan:
        if not self.direction.source.is_alive(look.source):
            return plan_removal(look, sides_of(self.known, look, {}), self.now)
        document = mapped(self.known, self.direction, look.source or {})
        sides = None if document is None else sides_of(self.known, look, document)
        return plan_write(look, sides, self.sink.sink, self.now)


def _told(look: Look, plan: Plan) -> dict[str, Any]:
    conflicts = [
        {
            "field": one.field,
            "source": one.source,
            "target": one.target,
            "rule": one.ruling.rule,
            "winner": one.ruling.winner,
        }
        for one in plan.merge.conflicts
    ]
    told = {
        "record": look.source_key,
        "other": look.other_key,
        "step": plan.step.value,
        "fields": plan.merge.changed,
        "kept": {name: winner for name, winner in plan.merge.kept.items() if winner == "target"},
        "conflicts": conflicts,
    }
    plain: dict[str, Any] = decode_json(encode_json(told))
    return plain
