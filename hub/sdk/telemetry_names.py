"""Names of devices and metrics: the one rule for connectors and hub."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 255

_UNFIT = frozenset(("Cc", "Cs", "Zl", "Zp"))
# Signs nobody sees, and those that turn the order of others round: two names would look the same.
_UNSEEN = frozenset("\u200b\u2060\ufeff\u200e\u200f\u061c\u00ad") | frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)


def plain_name(raw: str) -> str:
    """The name as it is kept, NFC and without blanks around it; "" when it cannot be one.

    It has 1 to 255 characters, no control characters, and none that are invisible.
    """
    if raw.isascii() and raw.isprintable():
        name = raw.strip()
    elif any(one in _UNSEEN or unicodedata.category(one) in _UNFIT for one in raw):
        return ""
    else:
        name = unicodedata.normalize("NFC", raw.strip())
    return name if len(name) <= LONGEST_NAME else ""


def is_plain_name(name: str) -> bool:
    """Whether the name is one as it is kept."""
    return name != "" and plain_name(name) == name
