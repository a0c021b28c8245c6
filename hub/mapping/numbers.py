"""Exact numbers: decimals, integers and Chinese capital amounts."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any

from hub.mapping.results import reject
from hub.mapping.text import INT64, halfwidth

PRECISION = 50
"""Digits an expression keeps; products of two decimal(18,4) are exact."""

_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_DIGITS = {"零": 0, "〇": 0, "○": 0, "两": 2, "兩": 2} | {
    sign: value
    for signs in ("壹贰叁肆伍陆柒捌玖", "一二三四五六七八九", "壹貳參肆伍陸柒捌玖")
    for value, sign in enumerate(signs, 1)
}
_AMOUNT = re.compile(r"([负-]?)(?:人民币)?:?[¥￥]?([负-]?)([^负-]+)")
_TENS = {"拾": 10, "十": 10, "佰": 100, "百": 100, "仟": 1000, "千": 1000}
_TRADITIONAL = str.maketrans(
    {"萬": "万", "億": "亿", "圓": "元", "圆": "元", "正": "整", "毛": "角"}
)


def exact_context(precision: int = PRECISION) -> Context:
    """A decimal context that raises instead of answering NaN or infinity."""
    return Context(
        prec=precision,
        rounding=ROUND_HALF_UP,
        Emax=999,
        Emin=-999,
        traps=[DivisionByZero, InvalidOperation, Overflow],
    )


def number(value: Any) -> Decimal | int | None:
    """A source value as an exact number; blank text is null. Raises RecordRejected."""
    kind = value.__class__
    if kind is Decimal:
        if value.is_finite():
            return value  # type: ignore[no-any-return]  # narrowed by kind
    elif kind is int or value is None:
        return value  # type: ignore[no-any-return]  # narrowed by kind
    elif kind is str:
        return _from_text(value)
    elif kind is float:
        return number(Decimal(repr(value)))
    raise reject("mapping.not_a_number", value)


def _from_text(value: str) -> Decimal | None:
    text = halfwidth(value).strip()
    if not text:
        return None
    if "," in text and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if "_" not in text and len(text) <= 1000:
        try:
            found = Decimal(text)
        except InvalidOperation:
            found = Decimal("NaN")
        if found.is_finite() and abs(found.adjusted()) <= 999:
            return found
    raise reject("mapping.not_a_number", value[:60])


def decimal_type(precision: int, scale: int) -> Callable[[Any], Decimal | None]:
    """A converter to exactly `scale` places (half up); more than `precision` digits are refused."""
    context = exact_context(precision)
    quantize, create = context.quantize, Decimal
    unit = Decimal(1).scaleb(-scale)
    zero = Decimal(0).quantize(unit)

    def convert(value: Any) -> Decimal | None:
        kind = value.__class__
        try:
            if kind is Decimal or kind is int:
                exact = quantize(value, unit)
            elif kind is str and "_" not in value:
                exact = quantize(create(value), unit)
            else:
                return slow(value)
        except InvalidOperation:
            return slow(value)
        # NaN is the only value unequal to itself; -0 becomes 0 so that equal amounts look equal
        return (exact or zero) if exact == exact else slow(value)

    def slow(value: Any) -> Decimal | None:
        found = number(value)
        if found is None:
            return None
        try:
            return quantize(Decimal(found), unit) or zero
        except InvalidOperation:
            raise reject(
                "mapping.decimal_overflow", value, precision=precision, scale=scale
            ) from None

    return convert


def integer(value: Any) -> int | None:
    """A whole number; `12.0` counts, `12.5` is refused."""
    if value.__class__ is str and value.isdecimal() and len(value) < 19:
        return int(value)
    found = number(value)
    if found is None:
        return None
    if not -INT64 <= found <= INT64:
        raise reject("mapping.number_too_large", value, limit="64 bits")
    if found != int(found):
        raise reject("mapping.not_an_integer", value)
    return int(found)


def rounded(value: Any, places: int) -> Decimal | None:
    """`value` with `places` decimals, half up."""
    found = number(value)
    if found is None:
        return None
    try:
        exact = exact_context().quantize(Decimal(found), Decimal(1).scaleb(-places))
    except InvalidOperation:
        raise reject("mapping.number_too_large", value, limit=f"{PRECISION} digits") from None
    return exact if exact else abs(exact)


def capital_amount(value: Any) -> Decimal | None:
    """A Chinese capital amount (大写金额) as a decimal with two places.

    Formal (壹贰叁) and everyday (一二三) digits, 元/圆, 万/亿, 负, 整/正 and the prefix 人民币 are
    read; a plain number is taken as it is.
    """
    if not isinstance(value, str):
        return rounded(value, 2)
    text = "".join(halfwidth(value).translate(_TRADITIONAL).split())
    if not text:
        return None
    found = _AMOUNT.fullmatch(text)
    negative, words = bool(found and (found[1] or found[2])), found[3] if found else ""
    try:
        amount = _amount(words.removesuffix("整"))
    except (KeyError, ValueError):
        if re.fullmatch(r"[0-9,]*\.?[0-9]+", words):
            return rounded(f"-{words}" if negative else words, 2)
        raise reject("mapping.not_an_amount", value[:60]) from None
    return -amount if negative and amount else amount


def _amount(text: str) -> Decimal:
    yuan, has_yuan, rest = text.rpartition("元")
    if not has_yuan:
        yuan, rest = ("", text) if text.endswith(("角", "分")) else (text, "")
    if not yuan and not rest:
        raise ValueError
    cents = _cents(rest) if rest else 0
    whole = _whole(yuan) if yuan else 0
    return Decimal(whole * 100 + cents).scaleb(-2)


def _cents(text: str) -> int:
    found = re.fullmatch(r"零?(?:(.)角)?零?(?:(.)分)?", text)
    if not found or not (found[1] or found[2]):
        raise ValueError
    return sum(_DIGITS[sign] * unit for sign, unit in ((found[1], 10), (found[2], 1)) if sign)


def _whole(text: str) -> int:
    high, has_high, low = text.rpartition("亿")
    if has_high:
        if "亿" in high:
            raise ValueError
        return _whole(high) * 10**8 + (_whole(low) if low else 0)
    high, has_high, low = text.rpartition("万")
    if has_high:
        return _section(high) * 10**4 + (_section(low) if low else 0)
    return _section(text)


def _section(text: str) -> int:
    """A number below 10,000: digits with falling units, zeros anywhere between them."""
    if not text or "亿" in text or "万" in text:
        raise ValueError
    total, digit, below = 0, None, 10_000
    for sign in text:
        if sign in _TENS:
            unit = _TENS[sign]
            if unit >= below or (digit is None and (unit != 10 or total)):
                raise ValueError
            total, digit, below = total + (digit or 1) * unit, None, unit
        elif digit is not None:
            raise ValueError
        else:
            digit = _DIGITS[sign] or None
    if digit is not None and below == 1:
        raise ValueError
    return total + (digit or 0)
