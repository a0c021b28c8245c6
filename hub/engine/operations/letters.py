"""Dead letters: what a person must look at."""

from __future__ import annotations

from hub.engine.operations.base import Opened, Row, capped, iso
from hub.sdk.errors import ConfigError
from hub.store import dead_letters
from hub.store.rows import from_ms


class LetterOperations(Opened):
    """Looking at dead letters."""

    def dead_letters(self, flow: str | None, state: str | None, limit: int) -> list[Row]:
        """Records and deliveries a person must look at, newest first."""
        with self._hub.store.reading() as connection:
            found = dead_letters.list_dead_letters(connection, flow, state, capped(limit))
        return [letter_row(one) for one in found]

    def dead_letter(self, letter_id: str) -> Row:
        """One dead letter with its payload. Raises ConfigError when there is none."""
        with self._hub.store.reading() as connection:
            found = dead_letters.load_dead_letter(connection, letter_id)
        if found is None:
            raise ConfigError("dead_letter.unknown", letter=letter_id)
        return letter_row(found)


def letter_row(letter: Row) -> Row:
    """A dead letter as every face shows it."""
    shown = {name: value for name, value in letter.items() if not name.endswith("_at")}
    for name in ("created_at", "updated_at"):
        shown[name] = iso(from_ms(letter[name]))
    return shown
