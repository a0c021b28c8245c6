"""What a flow does when the shape of its source changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field

from hub.mapping.results import Row
from hub.sdk.loading import Strict
from hub.sdk.messages import render

Action = Literal["report", "ignore", "hold", "fail"]


class Contract(Strict):
    """The `contract:` block. `known` lists source fields the mapping does not use on purpose."""

    new_source_field: Literal["report", "ignore", "hold", "fail"] = "ignore"
    missing_source_field: Literal["report", "ignore", "hold"] = "ignore"
    type_error: Literal["dead_letter"] = "dead_letter"
    known: list[str] | None = Field(default=None)


class ContractFinding(NamedTuple):
    """One change of shape seen in a page, and what the mapping asks for."""

    kind: Literal["new_source_field", "missing_source_field"]
    field: str
    action: Action

    def message(self, language: str = "en") -> str:
        """One line naming the field and what happens now."""
        return render(
            f"mapping.{self.kind}", {"field": self.field, "action": self.action}, language
        )


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """Compares the fields of whole pages with what is expected."""

    contract: Contract
    used: frozenset[str]

    def findings(
        self, rows: Iterable[Row], baseline: frozenset[str] | None
    ) -> list[ContractFinding]:
        """Fields no row had before, and expected fields that no row of the page has."""
        new, missing = self.contract.new_source_field, self.contract.missing_source_field
        if new == missing == "ignore":
            return []
        seen = fields_seen(rows)
        found = []
        if new != "ignore" and seen and (baseline is not None or self.contract.known is not None):
            expected = self.used | (baseline or frozenset()) | frozenset(self.contract.known or ())
            found += [ContractFinding("new_source_field", f, new) for f in sorted(seen - expected)]
        if missing != "ignore" and seen:
            wanted = self.used if baseline is None else self.used & baseline
            gone = sorted(wanted - seen)
            found += [ContractFinding("missing_source_field", f, missing) for f in gone]
        return found


def fields_seen(rows: Iterable[Row]) -> frozenset[str]:
    """Top-level fields that at least one row has; most rows of a page share one shape."""
    return frozenset().union(*set(map(tuple, rows)))
