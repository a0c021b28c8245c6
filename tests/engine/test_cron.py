"""When a schedule comes due, against a walk over every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.engine.cron import ever_comes, is_cron
from hub.engine.flows import Schedule
from hub.engine.schedule import last_planned

MINUTE = timedelta(minutes=1)
ZONES = ("Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")

# Around a spring change, an autumn change, the ends of months and a leap day.
DAYS = [
    datetime(2026, 3, 28, 20, tzinfo=UTC),
    datetime(2026, 10, 24, 20, tzinfo=UTC),
    datetime(2026, 3, 8, 0, tzinfo=UTC),
    datetime(2026, 11, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 3, 8, tzinfo=UTC),
    datetime(2026, 4, 4, 8, tzinfo=UTC),
    datetime(2028, 2, 28, 12, tzinfo=UTC),
    datetime(2026, 12, 31, 12, tzinfo=UTC),
]


def fields(cron: str) -> list[set[int]]:
    """The five fields as sets, read by other means than the code under test."""
    spans = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    found = []
    for text, (low, high) in zip(cron.split(), spans, strict=True):
        values: set[int] = set()
        for part in text.split(","):
            body, _, step = part.partition("/")
            first, _, last = body.partition("-")
            start = low if body == "*" else int(first)
            end = high if body == "*" or (step and not last) else int(last or first)
            values |= set(range(start, end + 1, int(step or 1)))
        found.append(values)
    return found


def shows(cron: str, local: datetime) -> bool:
    minute, hour, day, month, weekday = fields(cron)
    any_day, any_weekday = cron.split()[2] == "*", cron.split()[4] == "*"
    by_day, by_weekday = local.day in day, local.isoweekday() % 7 in weekday
    is_day = by_day and by_weekday if any_day or any_weekday else by_day or by_weekday
    return local.minute in minute and local.hour in hour and local.month in month and is_day


def walked(cron: str, zone: ZoneInfo, begin: datetime, minutes: int) -> set[datetime]:
    """Every planned start, minute by minute; clock times that were skipped count at the jump."""
    every_hour = len(fields(cron)[1]) == 24
    starts: set[datetime] = set()
    before: datetime | None = None
    for number in range(minutes):
        moment = begin + number * MINUTE
        local = moment.astimezone(zone).replace(tzinfo=None)
        again = moment.astimezone(zone).fold == 1
        if shows(cron, local) and (every_hour or not again):
            starts.add(moment)
        if before is not None and local > before + MINUTE and not every_hour:
            skipped = int((local - before) / MINUTE) - 1
            if any(shows(cron, before + (n + 1) * MINUTE) for n in range(skipped)):
                starts.add(moment)
        before = local
    return starts


USUAL = """
    * * * * *|*/15 * * * *|30 2 * * *|*/20 2 * * *|0 0 1 * *|59 23 29 2 *|0 3 * * 0
    |5 1-3 * * *|0 */2 * * *|15 2 28-31 * *|0 2 13 * 5|0 0 * * *
"""

CRONS = st.one_of(
    st.sampled_from([cron.strip() for cron in USUAL.split("|")]),
    st.builds(
        "{} {} * * {}".format,
        st.integers(0, 59),
        st.integers(0, 23),
        st.sampled_from(["*", "1-5", "0", "6"]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    cron=CRONS,
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(DAYS),
    first=st.integers(0, 500),
    length=st.integers(0, 2000),
    seconds=st.integers(0, 59),
)
def test_the_last_planned_start_is_the_one_a_walk_over_every_minute_finds(
    cron: str, zone: str, day: datetime, first: int, length: int, seconds: int
) -> None:
    after = day + first * MINUTE
    until = after + length * MINUTE + timedelta(seconds=seconds)
    starts = walked(cron, ZoneInfo(zone), day - MINUTE, 2600)
    expected = max((one for one in starts if after < one <= until), default=None)
    assert last_planned(Schedule(cron=cron, zone=zone), after, until) == expected


@pytest.mark.parametrize(
    ("day", "cron", "starts"),
    [
        ("2026-03-29", "30 2 * * *", ["01:00"]),  # 02:30 was skipped: when the clock had moved
        ("2026-10-25", "30 2 * * *", ["00:30"]),  # 02:30 came twice: the first time
        ("2026-03-29", "30 * * * *", ["00:30", "01:30", "02:30"]),
        ("2026-10-25", "30 * * * *", ["00:30", "01:30", "02:30"]),
    ],
)
def test_a_fixed_hour_comes_once_and_every_hour_comes_hourly_when_the_clock_is_changed(
    day: str, cron: str, starts: list[str]
) -> None:
    schedule = Schedule(cron=cron, zone="Europe/Berlin")
    begin = datetime.fromisoformat(f"{day}T00:10:00+00:00")
    plan, found = begin, []
    for minute in range(180):
        planned = last_planned(schedule, plan, begin + minute * MINUTE)
        if planned is not None:
            found.append(plan := planned)
    assert [one.strftime("%H:%M") for one in found] == starts


@pytest.mark.parametrize(
    ("cron", "after", "until", "expected"),
    [
        ("0 0 29 2 *", "2025-01-01", "2028-03-01", "2028-02-29"),
        ("0 0 29 2 *", "2025-01-01", "2027-12-31", None),
        ("0 0 31 * *", "2026-04-01", "2026-05-30", None),
        ("0 0 31 * *", "2026-04-01", "2026-06-30", "2026-05-31"),
        ("0 0 L * *", "2026-02-01", "2026-03-01", "2026-02-28"),
    ],
)
def test_ends_of_months_and_leap_days(
    cron: str, after: str, until: str, expected: str | None
) -> None:
    begin, end = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (after, until))
    found = last_planned(Schedule(cron=cron, zone="UTC"), begin, end)
    assert (found.date().isoformat() if found else None) == expected


@pytest.mark.parametrize(
    "cron",
    [
        "* * * * * *",
        "*/5 * * * * *",
        "@daily",
        "R * * * *",
        "R(1-5) 2 * * *",
        "H 2 * * *",
        "60 * * * *",
        "*/0 * * * *",
        "",
        "* * * *",
        "0 0 * * 8",
        "0 24 * * *",
        "five * * * *",
    ],
)
def test_what_is_not_five_plain_fields_is_refused(cron: str) -> None:
    assert not is_cron(cron)


@pytest.mark.parametrize("cron", ["*/15 8-20 * * *", "0 0 * jan mon", "0 0 l * *", "0 9 * * 1#2"])
def test_names_lists_and_last_days_are_taken(cron: str) -> None:
    assert is_cron(cron)
    assert croniter(cron)


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_comes_is_known(cron: str) -> None:
    assert not ever_comes(cron)
    assert ever_comes("0 0 29 2 *")
