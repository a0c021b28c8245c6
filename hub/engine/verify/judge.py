"""What the sides say of one key: the same, missing, extra, different or there twice, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hub.engine.verify.shelf import Difference, Item, Shelf, Side
from hub.engine.verify.sides import different_fields

MISSING, EXTRA, DIFFERENT, DUPLICATE = "missing", "extra", "different", "duplicate"

_DEAD = ("tombstoned",)
_STOPPED = ("held", "rejected")


class Judge:
    """Compares key by key and counts: `equal`, `other_flows`, and outcomes of the mapping."""

    def __init__(self, flow_id: str, policy: str, fields: Sequence[str]) -> None:
        self._flow_id = flow_id
        self._policy = policy
        self._fields = fields
        self.counts: Counter[str] = Counter()

    def differences(self, shelf: Shelf) -> Iterator[Difference]:
        """Every difference, in the order of keys."""
        for key, items in shelf.by_key():
            yield from self._compare(key, items)

    def _compare(self, key: str, items: Sequence[Item]) -> Iterator[Difference]:
        sides = {side: [one for one in items if one.side == side] for side in Side}
        wanted = sides[Side.WANTED][-1] if sides[Side.WANTED] else None
        there = {one.row_key: one for one in sides[Side.THERE]}
        alive = [one for one in there.values() if one.state != "inactive"]
        own = [one for one in sides[Side.LINKED] if one.flow_id == self._flow_id]
        others = [one for one in sides[Side.LINKED] if one.flow_id != self._flow_id]
        linked = own[-1] if own else None
        reason = self._reason(wanted, linked, waiting=bool(sides[Side.WAITING]))
        if len(alive) > 1:
            yield Difference(DUPLICATE, key, _source(wanted, linked), "several_in_target")
        if wanted is not None and wanted.state == "ok":
            yield from self._wanted(key, wanted, alive, there, reason)
        elif wanted is not None:
            self.counts["stopped"] += bool(alive)
        elif alive:
            yield from self._unwanted(key, linked, others, waiting=bool(sides[Side.WAITING]))

    def _wanted(
        self,
        key: str,
        wanted: Item,
        alive: Sequence[Item],
        there: dict[str, Item],
        reason: str,
    ) -> Iterator[Difference]:
        if not alive:
            why = "inactive" if there and reason == "drifted" else reason
            yield Difference(MISSING, key, wanted.row_key, why)
            return
        fields = different_fields(wanted.marks or b"", alive[0].marks or b"", self._fields)
        if fields:
            yield Difference(DIFFERENT, key, wanted.row_key, reason, fields)
        elif len(alive) == 1:
            self.counts["equal"] += 1

    def _unwanted(
        self, key: str, linked: Item | None, others: Sequence[Item], *, waiting: bool
    ) -> Iterator[Difference]:
        if any(one.state not in _DEAD for one in others):
            self.counts["other_flows"] += 1
            return
        if linked is None:
            yield Difference(EXTRA, key, None, "unknown")
        elif linked.state in _DEAD and self._policy == "unlink":
            self.counts["unlinked"] += 1
        elif waiting:
            yield Difference(EXTRA, key, linked.row_key, "waiting")
        elif linked.state == "skipped":
            yield Difference(EXTRA, key, linked.row_key, "left_out")
        elif linked.state in _DEAD:
            yield Difference(EXTRA, key, linked.row_key, "not_removed")
        else:
            yield Difference(EXTRA, key, linked.row_key, "gone")

    @staticmethod
    def _reason(wanted: Item | None, linked: Item | None, *, waiting: bool) -> str:
        if waiting:
            return "waiting"
        if linked is None:
            return "never_sent"
        if linked.state in _STOPPED:
            return "stopped"
        if wanted is not None and wanted.seen != linked.seen:
            return "not_read"
        return "drifted"


def _source(wanted: Item | None, linked: Item | None) -> str | None:
    found = wanted or linked
    return None if found is None else found.row_key
