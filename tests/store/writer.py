"""A process that writes records for a while: `python -m tests.store.writer URL NAME ROUNDS`.

Half of its records have keys of their own, the others share 20 keys with every other writer; some
transactions dawdle before they commit, some are rolled back.
"""

from __future__ import annotations

import random
import sys
import time

from hub.store.database import Store, open_store
from hub.store.records import Change, put_records

ENTITY = "item"


class _Undo(Exception):
    pass


def write(store: Store, name: str, rounds: int) -> list[str]:
    """The keys of its own that were committed."""
    chance = random.Random(name)
    kept: list[str] = []
    for number in range(rounds):
        own = f"{name}-{number}"
        shared = f"shared-{chance.randrange(20)}"
        doc = f'{{"by":"{own}"}}'
        gone = chance.random() < 0.3
        changes = [
            Change(own, doc, 1),
            Change(shared, None, number, deleted=1) if gone else Change(shared, doc, number),
        ]
        try:
            with store.transaction() as connection:
                put_records(connection, ENTITY, changes, 1000 + number)
                time.sleep(chance.choice((0, 0, 0.002, 0.01)))
                if chance.random() < 0.2:
                    raise _Undo
        except _Undo:
            continue
        kept.append(own)
    return kept


def main() -> None:
    store = open_store(sys.argv[1])
    try:
        kept = write(store, sys.argv[2], int(sys.argv[3]))
    finally:
        store.close()
    sys.stdout.write("\n".join(kept) + "\n")


if __name__ == "__main__":
    main()
