"""One line of the tables, and which verdicts are good."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a case ended. Only the first four are good."""

    COMPLETE = "complete"  # the target equals the source, nothing twice, the run is done
    LOUD = "loud"  # the run failed with its reason; the next one was complete
    EXACTLY_ONCE = "one effect"  # one effect per key, nothing open
    REVIEW = "review"  # at most one effect per key, and a person is asked where nobody can tell
    LOST = "SILENT LOSS"
    DOUBLED = "DOUBLED"
    INVENTED = "INVENTED"  # the target holds what the source never had, or a wrong id
    UNREPAIRED = "NOT REPAIRED"  # loud, but the next run did not put it right
    WRONG = "WRONG"  # a state that promises what is not so
    NOT_TRIED = "NOT TRIED"  # the fault never happened


GOOD = frozenset({Verdict.COMPLETE, Verdict.LOUD, Verdict.EXACTLY_ONCE, Verdict.REVIEW})


@dataclass(frozen=True, slots=True)
class Row:
    """What a case showed; `tries` counts the requests, `code` names the error of a loud end."""

    fault: str
    where: str
    verdict: Verdict
    expected: int
    found: int
    most_effects: int
    tries: int
    seconds: float
    code: str = ""
    note: str = ""

    @property
    def good(self) -> bool:
        return self.verdict in GOOD
