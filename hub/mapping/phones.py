"""Phone numbers of mainland China (and foreign ones with `+`) in one spelling."""

from __future__ import annotations

import re
from typing import Any

from hub.mapping.results import reject
from hub.mapping.text import halfwidth, shown

_EXTENSION = re.compile(
    r"\s*(?:转|轉|分机|分機|内线|ext\.?|extension|x|#|,)\s*[:.：]?\s*([0-9]{1,6})$", re.I
)
_DASHED = re.compile(r"^(\(?0[0-9]{2,3}\)?[-\s]?[0-9]{7,8})-([0-9]{1,6})$")
_NATIONAL = re.compile(
    r"1[3-9][0-9]{9}|0(?:10|2[0-9])[0-9]{8}|0[3-9][0-9]{2}[0-9]{7,8}|[48]00[0-9]{7}"
)
_MOBILE = frozenset(("13", "14", "15", "16", "17", "18", "19"))
_FILLING = re.compile(r"[\s\-–—－.()（）/]+")


def phone(value: Any) -> str | None:
    """`+8613812345678`, `+8651262881234;ext=801`; blank text is null. Raises RecordRejected."""
    if value.__class__ is str and len(value) == 11 and value[:2] in _MOBILE and value.isdecimal():
        return "+86" + (value if value.isascii() else str(int(value)))
    text = halfwidth(shown(value)).strip()
    if not text:
        return None
    number, extension = _split(text)
    digits = _FILLING.sub("", number)
    found = _canonical(digits)
    if found is None:
        raise reject("mapping.not_a_phone", value)
    return f"{found};ext={extension}" if extension else found


def _split(text: str) -> tuple[str, str | None]:
    found = _DASHED.match(text)
    if found:
        return found[1], found[2]
    found = _EXTENSION.search(text)
    return (text[: found.start()], found[1]) if found else (text, None)


def _canonical(digits: str) -> str | None:
    for prefix in ("+86", "0086", "86"):
        rest = digits.removeprefix(prefix)
        if rest != digits:
            national = rest if _NATIONAL.fullmatch(rest) else "0" + rest
            if _NATIONAL.fullmatch(national):
                return "+86" + national.removeprefix("0")
    if _NATIONAL.fullmatch(digits):
        return "+86" + digits.removeprefix("0")
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    foreign = re.fullmatch(r"\+[1-9][0-9]{6,14}", digits)
    return digits if foreign and not digits.startswith("+86") else None
