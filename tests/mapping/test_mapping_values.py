"""Numbers, amounts, moments and phones, against references written independently."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mapping import Mapping

Value = Callable[..., Any]
Make = Callable[..., Mapping]

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**16), max_value=10**16)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, st.integers(1, 38), st.integers(0, 38), st.sampled_from([str, Decimal]))
def test_decimals_are_exact_rounded_half_up_and_never_too_long(
    value: Value, number: Decimal, precision: int, scale: int, spell: Callable[[Decimal], Any]
) -> None:
    scale = min(scale, precision)
    with localcontext() as context:
        context.prec = 100
        expected = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
        fits = abs(expected) < Decimal(10) ** (precision - scale)
    found = value({"from": "a", "type": f"decimal({precision},{scale})"}, {"a": spell(number)})
    if fits:
        assert str(found) == str(expected if expected else abs(expected))
    else:
        assert found == [("decimal_overflow", "x")]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS | st.none(), st.booleans()), min_size=1, max_size=30))
def test_group_sums_are_exact_and_keep_their_sign(make: Make, batches: list[Any]) -> None:
    mapping = make({"a": "a"}, group={"by": ["w"], "sum": ["a"]})
    assert mapping.group is not None
    rows = [{"w": 1, "a": str(n) if text and n is not None else n} for n, text in batches]
    with localcontext() as context:
        context.prec = 200
        numbers = [n for n, _ in batches if n is not None]
        expected = sum(numbers, Decimal(0)) if numbers else None
    found = mapping.group.fold(rows)["a"]
    if expected is None:
        assert found is None
    else:
        assert abs(found - expected) <= abs(expected) * Decimal("1e-48")


# --- 大写金额 ----------------------------------------------------------------------------------

SIGNS = "零壹贰叁肆伍陆柒捌玖"


def write_amount(cents: int) -> str:
    """The amount as a cashier writes it, by its own rules (not by those of the parser)."""
    yuan, jiao, fen = cents // 100, cents // 10 % 10, cents % 10
    digits = str(yuan)
    words, zero = "", False
    for position, digit in enumerate(digits):
        place = len(digits) - 1 - position
        if digit == "0":
            zero = True
        else:
            words += (
                ("零" if zero and words else "")
                + SIGNS[int(digit)]
                + ("", "拾", "佰", "仟")[place % 4]
            )
            zero = False
        if place % 4 == 0 and place and int(digits[max(0, position - 3) : position + 1]):
            words += ("", "万", "亿")[place // 4]
    text = words + "元" if yuan else ""
    if not jiao and not fen:
        return (text or "零元") + "整"
    text += SIGNS[jiao] + "角" if jiao else ("零" if yuan else "")
    return text + (SIGNS[fen] + "分" if fen else "整")


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 99_999_999_999_999) | st.integers(0, 10**6), st.booleans(), st.booleans())
def test_a_capital_amount_comes_back_as_the_number_it_was(
    value: Value, cents: int, traditional: bool, negative: bool
) -> None:
    text = write_amount(cents)
    if traditional:
        text = "人民币：" + text.translate(str.maketrans("万亿元整贰", "萬億圓正貳"))
    expected = Decimal(cents).scaleb(-2)
    if negative and cents:
        text, expected = "负" + text, -expected
    assert str(value("a | cny", {"a": text})) == str(expected)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("壹万贰仟叁佰元伍角整", "12300.50"),
        ("人民币壹拾万零伍佰圆整", "100500.00"),
        ("拾元整", "10.00"),
        ("叁万亿元", "3000000000000.00"),
        ("伍角", "0.50"),
        ("玖分", "0.09"),
        ("壹元零伍分", "1.05"),
        ("一千二百三十四元五角六分", "1234.56"),
        ("零元整", "0.00"),
        ("¥1,234.5", "1234.50"),
        ("两百元", "200.00"),
    ],
)
def test_amounts_as_contracts_spell_them(value: Value, text: str, amount: str) -> None:
    assert str(value("a | cny", {"a": text})) == amount


@pytest.mark.parametrize(
    "text", ["元", "壹贰元", "拾佰元", "佰元", "壹角壹元", "壹元伍", "合计壹元", "万元", "壹亿亿元"]
)
def test_words_that_are_no_amount_are_refused(value: Value, text: str) -> None:
    assert value("a | cny", {"a": text}) == [("not_an_amount", "x")]


# --- moments ----------------------------------------------------------------------------------

ZONES = [
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "UTC",
]


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(
        datetime(1930, 1, 1),  # noqa: DTZ001 (local on purpose)
        datetime(2090, 1, 1),  # noqa: DTZ001 (local on purpose)
    ).map(lambda moment: moment.replace(microsecond=0)),
    st.sampled_from(ZONES),
    st.sampled_from(
        ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S"]
    ),
)
def test_local_times_become_utc_by_the_rules_of_their_zone(
    value: Value, moment: datetime, zone: str, form: str
) -> None:
    aware = moment.replace(tzinfo=ZoneInfo(zone))
    instant = aware.astimezone(UTC)
    found = value({"from": "a", "type": "datetime", "zone": zone}, {"a": moment.strftime(form)})
    if instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != moment:
        assert found == [("time_skipped", "x")]
    else:
        assert found == instant.replace(tzinfo=None).isoformat() + "Z"


def test_every_hour_around_a_change_of_clocks_is_right(value: Value) -> None:
    spec = {"from": "a", "type": "datetime", "zone": "Europe/Berlin"}
    assert value(spec, {"a": "2026-03-29 01:59:59"}) == "2026-03-29T00:59:59Z"
    assert value(spec, {"a": "2026-03-29 02:30:00"}) == [("time_skipped", "x")]
    assert value(spec, {"a": "2026-03-29 03:00:00"}) == "2026-03-29T01:00:00Z"
    assert value(spec, {"a": "2026-10-25 02:30:00"}) == "2026-10-25T00:30:00Z"  # the earlier one
    assert value(spec, {"a": "2026-10-25 03:00:00"}) == "2026-10-25T02:00:00Z"


def test_shanghai_had_summer_time_until_1991(value: Value) -> None:
    spec = {"from": "a", "type": "datetime", "zone": "Asia/Shanghai"}
    assert value(spec, {"a": "1990-07-01 12:00:00"}) == "1990-07-01T03:00:00Z"
    assert value(spec, {"a": "1992-07-01 12:00:00"}) == "1992-07-01T04:00:00Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-19T16:00:00Z"),
        ("2026-11-20 10:11", "2026-11-20T02:11:00Z"),
        ("2026年11月20日 10:11:12", "2026-11-20T02:11:12Z"),
        ("2026.1.2", "2026-01-01T16:00:00Z"),
        ("2026-11-20T10:11:12Z", "2026-11-20T10:11:12Z"),
        ("2026-11-20T10:11:12.5+08:00", "2026-11-20T02:11:12.500000Z"),
        ("2026-11-20 10:11:12 -0530", "2026-11-20T15:41:12Z"),
        ("２０２６-11-20 10:11:12", "2026-11-20T02:11:12Z"),
        (" ", None),
    ],
)
def test_moments_are_read_in_every_usual_spelling(value: Value, text: str, expected: Any) -> None:
    spec = {"from": "a", "type": "datetime", "zone": "Asia/Shanghai"}
    assert value(spec, {"a": text}) == expected


NO_MOMENTS = [
    "2026-W47-5T10:11:12",
    "2026-11-20x10:11:12",
    "2026-11-20T10+08:00",
    "20-11-2026",
    "2026-13-01",
    "2026-11-20 24:00:00",
    "2026-11-31 10:00:00",
    "2026-11-20 10:60:00",
    "20261120 10:00:00 x",
    "x" * 19,
]


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_other_text_is_no_moment(value: Value, text: str) -> None:
    spec = {"from": "a", "type": "datetime", "zone": "Asia/Shanghai"}
    assert value(spec, {"a": text}) == [("not_a_date", "x")]


def test_formats_and_epochs_are_read_when_named(value: Value) -> None:
    spec = {"from": "a", "type": "datetime", "format": "%d/%m/%Y %H:%M", "zone": "UTC"}
    assert value(spec, {"a": "20/11/2026 10:11"}) == "2026-11-20T10:11:00Z"
    assert value(spec, {"a": "2026-11-20"}) == [("not_a_date", "x")]
    millis = {"from": "a", "type": "datetime", "format": "epoch_ms"}
    assert value(millis, {"a": 1_795_140_672_000}) == "2026-11-20T02:11:12Z"
    assert value(millis, {"a": "1795140672500"}) == "2026-11-20T02:11:12.500000Z"
    seconds = {"from": "a", "type": "date", "format": "epoch_s", "zone": "Asia/Shanghai"}
    assert value(seconds, {"a": 1_795_197_600 - 86400}) == "2026-11-20"
    assert value(millis, {"a": 10**15}) == [("not_a_date", "x")]


def test_moments_of_python_are_taken_as_they_are(value: Value) -> None:
    spec = {"from": "a", "type": "datetime", "zone": "Asia/Shanghai"}
    naive = datetime(2026, 11, 20, 10)  # noqa: DTZ001 (on purpose)
    assert value(spec, {"a": naive}) == "2026-11-20T02:00:00Z"
    assert (
        value(spec, {"a": naive.replace(tzinfo=UTC) + timedelta(hours=1)}) == "2026-11-20T11:00:00Z"
    )


# --- phones -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("13812345678", "+8613812345678"),
        (13812345678, "+8613812345678"),
        ("+86 138 1234 5678", "+8613812345678"),
        ("0086-13812345678", "+8613812345678"),
        ("１３８１２３４５６７８", "+8613812345678"),
        ("0512-62881234", "+8651262881234"),
        ("(0512)62881234", "+8651262881234"),
        ("+86 512 62881234", "+8651262881234"),
        ("010-62881234", "+861062881234"),
        ("0512-62881234-8001", "+8651262881234;ext=8001"),
        ("0512-62881234转801", "+8651262881234;ext=801"),
        ("021-62881234 ext. 12", "+862162881234;ext=12"),
        ("400-820-1234", "+864008201234"),
        ("+1 (650) 253-0000", "+16502530000"),
        ("", None),
    ],
)
def test_phones_have_one_spelling(value: Value, text: Any, canonical: Any) -> None:
    assert value("a | phone", {"a": text}) == canonical


@pytest.mark.parametrize(
    "text", ["62881234", "12812345678", "1381234567", "+86 1", "电话", "138123456789", "0512"]
)
def test_numbers_nobody_can_call_are_refused(value: Value, text: str) -> None:
    assert value("a | phone", {"a": text}) == [("not_a_phone", "x")]
