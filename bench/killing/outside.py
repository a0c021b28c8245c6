"""The systems outside of the hub, in a process that is never killed (`-m bench.killing.outside`).

A U8 whose rows somebody keeps editing, and a CRM that writes down every effect. Prints the two
addresses, then runs until its stdin ends.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench.killing.journal import Journal
from connectors.crm.fake import Entry, FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.sdk.testing import serve

FEEDS = {"customer": ("customer",), "inventory": ("ticket", "sale_order")}
"""Which lists of U8 the pulled flows read, and the sinks that must come to hold their rows."""

CONTENT = "name"
"""The field that carries a text which names its key and version; mapped as it is."""

_ZONE = ZoneInfo("Asia/Shanghai")


class WitnessedCrm(FakeCrm):
    """A CRM that notes every effect at the moment at which it happens."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._swallow = 0
        self.commands["swallow"] = self.swallow

    def swallow(self, times: int) -> None:
        """Say of the next `times` upserted items that they were made, and make nothing."""
        with self.lock:
            self._swallow = times

    def count_effect(self, name: str, row: Entry) -> None:
        super().count_effect(name, row)
        self._journal.effect(name, row.external_id, str(row.data.get(CONTENT)), row.id)

    def _upsert_one(self, name: str, item: Any) -> dict[str, Any]:
        if self._swallow:
            self._swallow -= 1
            key = item["external_id"]
            return {"external_id": key, "id": f"lost-{key}", "status": "created"}
        return super()._upsert_one(name, item)


class EditedU8(FakeU8):
    """A U8 in which somebody edits rows; every version is noted before anybody can read it."""

    def __init__(self, journal: Journal, *, customers: int, materials: int, seed: int) -> None:
        sizes = Sizes(materials=materials, stock=5, customers=customers, orders=2)
        super().__init__(sizes=sizes, seed=seed)
        self._journal = journal
        self._random = random.Random(seed)
        self._versions: dict[str, int] = {}
        self._calm = threading.Event()
        self.commands["calm"] = self._calm.set
        for resource in FEEDS:
            for key in self._table(resource):
                self._edit(resource, key)
        self.refresh()

    def keep_editing(self, per_second: float) -> None:
        """Edit rows until the command `calm` comes."""
        while not self._calm.wait(1 / per_second):
            with self.lock:
                if not self._calm.is_set():
                    resource = self._random.choice(list(FEEDS))
                    self._edit(resource, self._random.choice(list(self._table(resource))))
                    self.refresh()

    def _table(self, resource: str) -> dict[str, dict[str, Any]]:
        books = self.ledgers["1"]
        return {"inventory": books.materials, "customer": books.customers}[resource]

    def _edit(self, resource: str, key: str) -> None:
        self._versions[key] = self._versions.get(key, 0) + 1
        content = f"{key} 第{self._versions[key]}版"
        for sink in FEEDS[resource]:
            self._journal.row(sink, key, content)
        now = self.clock.now().astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S.000")
        self._table(resource)[key].update({CONTENT: content, "ModifyDate": now})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--customers", type=int, default=450)
    parser.add_argument("--materials", type=int, default=250)
    parser.add_argument("--edits", type=float, default=5.0, help="edited rows per second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    journal = Journal(given.journal)
    u8 = EditedU8(journal, customers=given.customers, materials=given.materials, seed=given.seed)
    threading.Thread(target=u8.keep_editing, args=(given.edits,), daemon=True).start()
    with WitnessedCrm(journal) as crm:
        sys.stdout.write(crm.url + "\n")
        serve(u8)


if __name__ == "__main__":
    main()
