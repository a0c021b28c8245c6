"""Every row that was read is accounted for before the read counts as complete."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from hub.sdk.errors import ContractBroken
from hub.store.runs import Run
from hub.store.staging import count_staged

_FATES = ("mapped", "skipped", "held", "rejected")
_OUTCOMES = ("unchanged", "written", "refused", "coalesced", "pending")


def check_read(connection: Connection, run: Run) -> None:
    """Raises ContractBroken unless the counts of a run whose read is complete add up.

    read = mapped + skipped + held + rejected, where a group counts once for all its rows;
    mapped = unchanged + written + refused + coalesced + pending.
    """
    counts = run.counts
    fates = sum(counts[name] for name in _FATES)
    outcomes = sum(counts[name] for name in _OUTCOMES)
    if counts["mapped"] != outcomes:
        raise _unbalanced(run, "mapped", counts["mapped"], outcomes)
    if not counts["grouped"]:
        staged = count_staged(connection, run.id)
        if counts["rows_read"] != fates + staged:
            raise _unbalanced(run, "read", counts["rows_read"], fates + staged)
    elif run.pass_no == 0:
        # A row without a key is not staged; the stage keeps one of several equal keys.
        alone = fates - counts["grouped"]
        accounted = count_staged(connection, run.id) + alone
        distinct = counts["rows_read"] - counts["repeated"]
        if not distinct <= accounted <= counts["rows_read"]:
            raise _unbalanced(run, "read", counts["rows_read"], accounted)


def _unbalanced(run: Run, name: str, expected: int, found: int) -> ContractBroken:
    return ContractBroken(
        "run.counts_differ", run=run.id, name=name, expected=expected, found=found
    )
