"""InfluxDB line protocol as readings: clause by clause."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.iot.line_protocol import MOST_READINGS, decode
from connectors.iot.values import MOST_REFUSED
from hub.sdk.telemetry import Decoded

NOW = 1_795_329_338_228


def read(body: str | bytes, **details: str) -> Decoded:
    return decode(body.encode() if isinstance(body, str) else body, details, NOW)


def values(body: str | bytes, **details: str) -> dict[str, Any]:
    """Metric → value of the readings of the sender itself or any device; nothing is refused."""
    decoded = read(body, **details)
    assert decoded.refused == []
    found: dict[str, Any] = {metric: text for _, metric, _, text in decoded.texts}
    return found | {metric: value for _, metric, _, value in decoded.samples}


def codes(body: str | bytes, **details: str) -> list[tuple[int, str]]:
    return [(one.place, one.code) for one in read(body, **details).refused]


# --- what a line holds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1", 1.0),
        ("-1.5e3", -1500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1E+3", 1000.0),
        ("1e-400", 0.0),
        ("007", 7.0),
        ("1i", 1.0),
        ("-9223372036854775808i", -(2.0**63)),
        ("1u", 1.0),
        ("18446744073709551615u", 2.0**64),
        ("0." + "1" * 300, float("0." + "1" * 300)),
    ],
)
def test_numbers(written: str, number: float) -> None:
    assert values(f"m f={written} 1") == {"m_f": number}
    assert values(f'm f={written},s="x"') == {"m_f": number, "m_s": "x"}  # the strict way


TRUE = ["t", "T", "true", "True", "TRUE"]


@pytest.mark.parametrize("written", [*TRUE, "f", "F", "false", "False", "FALSE"])
def test_booleans_are_numbers_beside_their_text(written: str) -> None:
    decoded = read(f"m f={written}")
    truth = written in TRUE
    assert decoded.samples == [("", "m_f", NOW, float(truth))]
    assert decoded.texts == [("", "m_f", NOW, "true" if truth else "false")]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("nan", "invalid"),
        ("NaN", "invalid"),
        ("-inf", "invalid"),
        ("Infinity", "invalid"),
        ("1e400", "invalid"),
        ("9" * 500, "invalid"),
        ("9223372036854775808i", "invalid"),
        ("18446744073709551616u", "invalid"),
        ("-1u", "invalid"),
        ("", "malformed"),
        ("+1", "malformed"),
        ("1_0", "malformed"),
        ("\uff11", "malformed"),
        ("1.5i", "malformed"),
        ("1e", "malformed"),
        ("-", "malformed"),
        (".", "malformed"),
        ("1.2.3", "malformed"),
        ("0x10", "malformed"),
        ("tRUE", "malformed"),
        ("yes", "malformed"),
        ("'x'", "malformed"),
        ('"x', "malformed"),
        ('"x"y', "malformed"),
        ('x"y"', "malformed"),
    ],
)
def test_what_is_no_value_spoils_its_line_only(written: str, code: str) -> None:
    body = f"m a=1\nm f={written},b=2 1\nm c=3"
    decoded = read(body)
    assert [(one.place, one.code) for one in decoded.refused] == [(1, code)]
    assert [one[1] for one in decoded.samples] == ["m_a", "m_c"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"hello, world = x y"', "hello, world = x y"),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"C:\\dir\new"', r"C:\dir\new"),
        (r'"\\"', "\\"),
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines"', "two\r\nlines"),
        ('"#no comment"', "#no comment"),
        ('"温度"', "温度"),
        ('""', ""),
    ],
)
def test_quoted_text(written: str, text: str) -> None:
    assert values(f"m f={written} 1\nm g=2") == {"m_f": text, "m_g": 2.0}


def test_quoted_text_that_looks_like_a_number_is_one() -> None:
    assert values('m f="3.3"') == {"m_f": 3.3}


def test_quoted_text_that_can_be_no_value_is_refused_by_itself() -> None:
    decoded = read(f'm,sn=A a="NaN",b=2,c="{"x" * 70_000}"')
    assert decoded.samples == [("A", "m_b", NOW, 2.0)]
    assert [(one.code, one.device, one.metric) for one in decoded.refused] == [
        ("invalid", "A", "m_a"),
        ("unsupported", "A", "m_c"),
    ]


@pytest.mark.parametrize(
    ("line", "metric", "attributes"),
    [
        (r"a\ b f=1", "a b_f", {}),
        (r"a\,b f=1", "a,b_f", {}),
        (r"a\=b f=1", "a=b_f", {}),
        ("a=b f=1", "a=b_f", {}),
        (r"a\b f=1", r"a\b_f", {}),
        (r"a\\,b f=1", r"a\,b_f", {}),
        ('"a" f=1', '"a"_f', {}),
        (r"m,t\ 1\,2=x\ y\=z f=1", "m_f", {"t 1,2": "x y=z"}),
        ('m,t="x" f=1', "m_f", {"t": '"x"'}),
        (r"m f\ g\,\=h=1", "m_f g,=h", {}),
        ('m f"=1', 'm_f"', {}),
        ("温度,地点=宁波 值=1", "温度_值", {"地点": "宁波"}),
    ],
)
def test_names_and_escapes(line: str, metric: str, attributes: dict[str, str]) -> None:
    decoded = read(line)
    assert decoded.refused == []
    assert decoded.samples == [("", metric, NOW, 1.0)]
    assert decoded.attributes.get("", {}) == attributes


@pytest.mark.parametrize(
    "line",
    [
        "m",
        "m ",
        "m,t=1",
        "m,t=1 ",
        ",t=1 f=1",
        "m, f=1",
        "m,t f=1",
        "m,t= f=1",
        "m,=1 f=1",
        "m,t=a=b f=1",
        "m,t=1,t=2 f=1",
        "m,,t=1 f=1",
        "m =1",
        "m f",
        "m f=1,",
        "m f=1,g",
        "m f=1,,g=1",
        "m f=1, g=1",
        "m f=1 =",
        "m f=1 1 1",
        "m f=1 1.5",
        "m f=1 1x",
        "m f=1 g=1",
        "m f=1;g=1",
        'm "f=1"',
        b"m\xff f=1",
        b"m,t=\xff f=1",
        b'm f="\xff"',
    ],
)
def test_what_is_no_line_is_refused_and_the_lines_around_it_kept(line: str | bytes) -> None:
    bad = line.encode() if isinstance(line, str) else line
    decoded = read(b"m a=1\n" + bad + b"\nm c=3\n")
    assert [(one.place, one.code in {"malformed", "bad_time"}) for one in decoded.refused] == [
        (1, True)
    ]
    assert [one[1] for one in decoded.samples] == ["m_a", "m_c"]


@pytest.mark.parametrize("line", [b"m f\xff=1", b"m f\x07=1", b"m " + b"f" * 300 + b"=1"])
def test_a_name_that_cannot_be_one(line: bytes) -> None:
    assert codes(line) == [(0, "name")]


def test_a_tag_that_is_there_twice_is_an_error_as_in_influxdb() -> None:
    assert codes("m,t=1,u=2,t=1 f=1") == [(0, "malformed")]


def test_a_field_that_is_there_twice_counts_once_the_last_time() -> None:
    assert read("m f=1,g=5,f=2").samples == [("", "m_f", NOW, 2.0), ("", "m_g", NOW, 5.0)]
    assert read('m f=1,g="x",f="y"').texts == [("", "m_f", NOW, "y"), ("", "m_g", NOW, "x")]
    assert read('m f=1,g="x",f="y"').samples == []


# --- lines ------------------------------------------------------------------------------------


def test_blank_lines_comments_and_line_ends() -> None:
    body = "\n  \n# a f=1\n\t# b f=1\r\nm a=1\r\nm b=2 5\r\n\r\n   m c=3\n#end"
    assert values(body) == {"m_a": 1.0, "m_b": 2.0, "m_c": 3.0}
    assert read("").samples == []
    assert codes("# x\n\n\nbad\nm f=1\nworse\n") == [(3, "malformed"), (5, "malformed")]


def test_several_spaces_between_the_parts() -> None:
    assert read("m,sn=A   f=1,g=2   1000000   \n").samples == [
        ("A", "m_f", 1, 1.0),
        ("A", "m_g", 1, 2.0),
    ]


def test_after_an_open_quote_reading_goes_on_with_the_next_line() -> None:
    decoded = read('m a=1\nm b="open\nm c=3\nm d=4')
    assert codes('m a=1\nm b="open\nm c=3\nm d=4') == [(1, "malformed")]
    assert [one[1] for one in decoded.samples] == ["m_a", "m_c", "m_d"]


def test_places_count_the_lines_within_texts() -> None:
    assert codes('m a="1\n2\n3"\nbad\n') == [(3, "malformed")]


def test_a_wrong_value_before_a_text_of_several_lines_does_not_open_the_text() -> None:
    decoded = read('m a=nan,b="x\nm evil=1\ny" 5\nm c=3')
    assert [one[1] for one in decoded.samples] == ["m_c"]
    assert [one.place for one in decoded.refused] == [0]


def test_a_line_may_not_be_longer_than_a_mebibyte() -> None:
    fields = ",".join(f"f{number}=1" for number in range(130_000))
    assert len(fields) > 1_048_576
    for line in (f"m {fields}", f'm s="x",{fields}', f"m {fields} 1"):
        decoded = read(f"{line}\nm c=3\n")
        assert [one.code for one in decoded.refused] == ["malformed"]
        assert [one[1] for one in decoded.samples] == ["m_c"]


def test_measurement_and_tags_may_not_be_longer_than_in_influxdb() -> None:
    assert codes(f"m,t={'x' * 65_536} f=1") == [(0, "malformed")]


def test_refusals_have_a_bound_and_are_counted() -> None:
    refused = read("bad\n" * (MOST_REFUSED + 5) + "m f=1").refused
    assert len(refused) == MOST_REFUSED + 1
    assert refused[-1] == (-1, "too_many", "5 more lines were refused", "", "")


def test_readings_have_a_bound() -> None:
    decoded = read(b"m f=1\n" * (MOST_READINGS + 1))
    assert len(decoded.samples) == MOST_READINGS
    assert [(one.place, one.code) for one in decoded.refused] == [(MOST_READINGS, "too_many")]


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "written", "ts"),
    [
        ("", "1795329338228999999", 1_795_329_338_228),
        ("ns", "1795329338228999999", 1_795_329_338_228),
        ("n", "1000000", 1),
        ("u", "1795329338228999", 1_795_329_338_228),
        ("us", "1000", 1),
        ("ms", "1795329338228", 1_795_329_338_228),
        ("s", "1795329338", 1_795_329_338_000),
        ("m", "1", 60_000),
        ("h", "-1", -3_600_000),
        ("ns", "0", 0),
        ("ns", "-9223372036854775808", -9_223_372_036_855),
        ("ns", "00000000000000000000005", 0),
    ],
)
def test_times(precision: str, written: str, ts: int) -> None:
    assert read(f"m f=1 {written}", precision=precision).samples == [("", "m_f", ts, 1.0)]


@pytest.mark.parametrize(
    ("precision", "written"),
    [("ns", "9223372036854775808"), ("s", "9223372037"), ("h", "2562048"), ("ns", "1" * 40)],
)
def test_a_time_out_of_range_is_refused(precision: str, written: str) -> None:
    body = f"m f=1 {written}\nm g=2 1\n"
    assert codes(body, precision=precision) == [(0, "bad_time")]
    assert len(read(body, precision=precision).samples) == 1


def test_a_line_without_a_time_gets_the_time_of_receipt() -> None:
    body = "m a=1\nm b=1 1000000\nm c=1\nm d=1 1000000\n"
    assert [one[2] for one in read(body).samples] == [NOW, 1, NOW, 1]


def test_an_unknown_precision_refuses_the_message() -> None:
    assert codes("m f=1", precision="fortnight") == [(-1, "malformed")]


# --- devices, metrics, attributes -------------------------------------------------------------


def test_the_device_is_the_first_of_the_device_tags() -> None:
    body = "m,host=h,sn=s f=1\nm,device=d,sn=s f=1\nm,host=h f=1\nm f=1"
    assert [one[0] for one in read(body).samples] == ["s", "d", "h", ""]
    tags = json.dumps(["machine"])
    assert [one[0] for one in read("m,host=h,machine=x f=1", device_tags=tags).samples] == ["x"]


def test_a_gateway_is_no_device() -> None:
    decoded = read("m,sn=A f=1\nm,site=x f=1", gateway="1")
    assert [one[0] for one in decoded.samples] == ["A"]
    assert [(one.place, one.code) for one in decoded.refused] == [(1, "no_device")]


def test_a_device_name_that_cannot_be_one() -> None:
    assert codes("m,sn=\x07 f=1") == [(0, "name")]
    assert codes(f"m,sn={'x' * 256} f=1") == [(0, "name")]


def test_the_configured_measurement_gives_no_prefix() -> None:
    body = "vib rms=1\ncpu rms=2\n"
    assert values(body, measurement="vib") == {"rms": 1.0, "cpu_rms": 2.0}


def test_other_tags_are_attributes_of_their_device() -> None:
    body = "m,sn=A,site=x f=1\nm,sn=B,site=y f=1\nm,sn=A,site=z,line=3 f=1\nm,sn=C f=1"
    assert read(body).attributes == {"A": {"site": "z", "line": "3"}, "B": {"site": "y"}}
    assert read("m,sn=A,a\x07=1,b=2 f=1").attributes == {"A": {"b": "2"}}


def test_metric_tags_tell_series_of_one_device_apart() -> None:
    body = "cpu,host=A,cpu=cpu0 idle=1\ncpu,host=A,cpu=cpu1 idle=2\ncpu,host=A idle=3"
    decoded = read(body, metric_tags='["cpu", "interface"]')
    assert [one[1] for one in decoded.samples] == ["cpu_cpu0_idle", "cpu_cpu1_idle", "cpu_idle"]
    assert decoded.attributes == {}
    short = read("cpu,host=A,cpu=cpu0 idle=1", metric_tags='["cpu"]', measurement="cpu")
    assert [one[1] for one in short.samples] == ["cpu0_idle"]


@pytest.mark.parametrize("tags", ["{", "{}", "[1]", '"sn"'])
def test_tags_that_are_no_list_refuse_the_message(tags: str) -> None:
    assert codes("m f=1", device_tags=tags) == [(-1, "malformed")]
    assert codes("m f=1", metric_tags=tags) == [(-1, "malformed")]


def test_points_within_one_millisecond_keep_their_order() -> None:
    assert [one[3] for one in read("m f=1 1000001\nm f=2 1000002").samples] == [1.0, 2.0]
