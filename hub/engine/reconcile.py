"""Every row that was read is accounted for: page by page, at the end of the read, at the end.

    read + grouped   = folded + mapped + skipped + held + rejected
    mapped + removed = unchanged + written + refused + coalesced + pending
    pending          = deliveries that wait + writes on the wire

`folded` are rows that went into groups, `grouped` the records they became, `removed` records that
vanished from the source. The first two hold after every page, so a page that loses a row never
commits: the run fails, and its cursor stays behind the page before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.sdk.errors import ContractBroken
from hub.store.backlog import count_pending, has_pending
from hub.store.runs import Run, delivering_runs, fail_stranded, load_run
from hub.store.staging import count_rows, count_staged

if TYPE_CHECKING:
    from hub.engine.hub import Hub

COUNTS_DIFFER = "run.counts_differ"

_FATES = ("folded", "mapped", "skipped", "held", "rejected")
_OUTCOMES = ("unchanged", "written", "refused", "coalesced", "pending")


def check_counts(run: Run) -> None:
    """Raises ContractBroken unless the counts of a run add up as far as it has come."""
    counts = run.counts
    _equal(run, "read", counts["rows_read"] + counts["grouped"], _sum(run, _FATES))
    _equal(run, "mapped", counts["mapped"] + counts["removed"], _sum(run, _OUTCOMES))


def check_read(connection: Connection, run_id: int) -> None:
    """Raises ContractBroken unless the stored counts add up and each pending write is there.

    For the transaction that ends the read, which holds the lock of the sink.
    """
    run = load_run(connection, run_id)
    assert run is not None  # noqa: S101 (its last page was written in this transaction)
    check_counts(run)
    _equal(run, "pending", run.counts["pending"], count_pending(connection, run_id))


def check_staged(connection: Connection, run: Run, row_keys: Collection[str]) -> None:
    """Raises ContractBroken unless each of these rows of a grouping flow is on the stage."""
    found = count_rows(connection, run.id, list(row_keys))
    _equal(run, "staged", len(row_keys), found)


def check_folded(connection: Connection, run: Run, taken: int) -> None:
    """Raises ContractBroken unless every row on the stage went into one of the groups."""
    _equal(run, "folded", count_staged(connection, run.id), taken)


def end_stranded(hub: Hub) -> None:
    """Fail runs that wait for writes of which nothing is left; their flows read again."""
    with hub.store.reading() as connection:
        waiting = delivering_runs(connection)
        stranded = [one for one in waiting if not has_pending(connection, one)]
    for run_id in stranded:
        with hub.store.transaction() as connection:
            fail_stranded(connection, run_id, hub.now_ms())


def _sum(run: Run, names: tuple[str, ...]) -> int:
    return sum(run.counts[name] for name in names)


def _equal(run: Run, name: str, expected: int, found: int) -> None:
    if expected != found:
        raise ContractBroken(COUNTS_DIFFER, run=run.id, name=name, expected=expected, found=found)
