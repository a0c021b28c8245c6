"""What a run would do, told without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.engine.entries import Entry
from hub.engine.flows import Flow
from hub.mapping import FieldProblem, Reference
from hub.store.rows import decode_json, encode_json

Row = dict[str, Any]


class DryRun:
    """Counts, first problems and samples of what a run would do."""

    def __init__(self, flow: Flow, samples: int) -> None:
        self.total: int | None = None
        self.complete = False
        self.decisions: list[Row] = []
        self._flow = flow
        self._most = samples
        self._counts = dict.fromkeys(("read", "mapped", "rejected", "held", "skipped"), 0)
        self._pages = 0
        self._problems: list[Row] = []
        self._samples: list[Row] = []
        self._groups: dict[str, list[Row]] = {}
        self._links: dict[tuple[str, str], str] = {}

    def add(
        self,
        rows: list[Row],
        keyless: list[Entry],
        links: dict[tuple[str, str], str],
        skipped: int = 0,
    ) -> None:
        self._pages += 1
        self._counts["read"] += len(rows) + len(keyless) + skipped
        self._counts["skipped"] += skipped
        self._links |= links
        for entry in keyless:
            self._refuse("rejected", outcome_row("rejected", None, entry.problems))
        group = self._flow.mapping.group
        for row in rows:
            if group is None:
                self._map(row)
            else:
                self._groups.setdefault(group.key(row), []).append(row)

    def close(self) -> Row:
        group = self._flow.mapping.group
        if group is not None:
            for members in self._groups.values():
                self._map(group.fold(members))
        decided = {} if self._flow.two_way is None else {"decisions": self.decisions}
        return {
            **decided,
            "flow": self._flow.id,
            "to": self._flow.target.ref,
            "pages": self._pages,
            "total": self.total,
            "complete": self.complete,
            "counts": self._counts,
            "problems": self._problems,
            "sample": self._samples,
        }

    def _map(self, row: Row) -> None:
        mapped = self._flow.mapping.apply(row, self._links)
        if mapped.outcome == "ok":
            self._counts["mapped"] += 1
            if len(self._samples) < self._most:
                self._samples.append(decode_json(encode_json(mapped.data)))
        elif mapped.outcome == "skipped":
            self._counts["skipped"] += 1
        else:
            shown = outcome_row(mapped.outcome, mapped.key, mapped.problems, mapped.references)
            self._refuse(mapped.outcome, shown)

    def _refuse(self, outcome: str, shown: Row) -> None:
        self._counts[outcome] += 1
        if len(self._problems) < self._most:
            self._problems.append(shown)


def outcome_row(
    outcome: str,
    key: str | None,
    problems: Sequence[FieldProblem],
    references: Sequence[Reference] = (),
) -> Row:
    """A record that did not go through: its key, its problems, and what it waits for."""
    return {
        "outcome": outcome,
        "key": key,
        "problems": [
            {
                "field": one.field,
                "value": None if one.value is None else str(one.value)[:200],
                "code": one.code,
                "message": one.message("en"),
            }
            for one in problems
        ],
        "waits_for": [{"entity": entity, "value": value} for entity, value in references],
    }
