"""Line protocol of any kind: no exception, no slow shape, one answer on every way through it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import line_protocol_parser
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.iot import line_protocol
from connectors.iot.line_grammar import BadLine, read_head, read_line
from connectors.iot.line_protocol import LineReader, Setup, decode, setup_of
from connectors.iot.values import name_of
from hub.sdk.telemetry import CODES, Decoded
from tests.connectors.iot.line_shapes import FULL, SHAPES

ROOT = Path(__file__).parents[3]
NOW = 1_795_329_338_228
PIECES = st.lists(
    st.sampled_from(
        [
            *("m", "sn=A", "f=1", "g=2i", "h=3u", "b=t", 's="x"', '"', "\\", ",", "=", " ", "\n"),
            *(
                "1",
                "-1.5e3",
                "17000000",
                "#",
                "nan",
                "1e400",
                "\t",
                "\0",
                "温",
                "\\ ",
                "\\,",
                "\\=",
            ),
            *("m,sn=B f=1,g=2 5\n", 'm s="a\nb" 5\n', "m f=1\n", "\r\n"),
        ]
    ),
    max_size=40,
).map("".join)


def seen(decoded: Decoded) -> Any:
    return decoded.samples, decoded.texts, decoded.attributes, decoded.refused


# --- one answer -------------------------------------------------------------------------------


@given(PIECES)
@settings(max_examples=300)
@example("m f=1i\nm f=1.5i\nm f=.5,f=1.\n")
@example("m,t=\\ f=1\nm\\ f=1 f=1\r\n")
def test_the_quick_way_and_the_strict_way_agree(text: str) -> None:
    body = text.encode()
    quick = seen(decode(body, {}, NOW))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_protocol, "_PLAIN", re.compile(rb"(?!)"))
        assert seen(decode(body, {}, NOW)) == quick


@given(st.text(",=ab", min_size=1, max_size=12))
@example("a,a=b,a=b")
def test_heads_without_escapes_mean_the_same_to_the_strict_pattern(head: str) -> None:
    try:
        strict = read_line(f"{head} f=1\n".encode(), 0).head
        measurement, tags = read_head(head.encode())
    except BadLine as problem:
        if head.startswith(",") or problem.detail == "a tag is there twice":
            return  # the quick way does not get there, or the strict one looks at it later
        with pytest.raises(BadLine):
            read_head(head.encode())
    else:
        assert strict == head.encode()
        assert ",".join([measurement, *(f"{k}={v}" for k, v in tags.items())]) == head


@given(PIECES, st.integers(1, 5))
def test_a_body_read_in_parts_gives_the_same(text: str, most: int) -> None:
    body = text.encode()
    whole = decode(body, {}, NOW)
    setup = setup_of({})
    assert isinstance(setup, Setup)
    reader = LineReader(body, setup, NOW)
    samples, texts, bad, at = [], [], 0, 0
    while reader.at < len(body):
        reader.read(most)
        part = decode(body[at : reader.at], {}, NOW)
        at = reader.at
        assert len(part.refused) == reader.bad
        bad += reader.bad
        again = reader.result()
        assert (again.samples, again.texts) == (part.samples, part.texts)
        samples += again.samples
        texts += again.texts
    assert (samples, texts, bad) == (whole.samples, whole.texts, len(whole.refused))


@given(st.one_of(st.binary(max_size=200), PIECES.map(str.encode)), st.sampled_from(["", "1"]))
@settings(max_examples=300)
def test_whatever_comes_is_read_or_refused(body: bytes, gateway: str) -> None:
    decoded = decode(body, {"gateway": gateway}, NOW)
    for device, metric, ts, value in decoded.samples:
        assert device == "" or name_of(device) == device
        assert name_of(metric) == metric
        assert isinstance(ts, int)
        assert math.isfinite(value)
    for refused in decoded.refused:
        assert refused.code in CODES
        assert 0 <= refused.place <= body.count(b"\n")
        assert refused.detail.isascii()


@given(st.dictionaries(st.sampled_from(["precision", "device_tags", "measurement"]), st.text()))
def test_whatever_the_details_are(details: dict[str, str]) -> None:
    assert isinstance(decode(b"m f=1\n", details, NOW), Decoded)


# --- the oracle: an implementation by somebody else -------------------------------------------

# It is not asked about what it sees otherwise: an escaped "=" in a measurement (it keeps the
# backslash, InfluxDB does not), numbers nearer to 0 than float64 has full digits for (it refuses
# them), a tag that is there twice (it refuses the line, as InfluxDB and we do).
NAME = st.text("ab温,= 1.-", min_size=1, max_size=8).filter(lambda one: one.strip() == one)
WHOLE = st.integers(-(2**53), 2**53)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
TEXT = st.text('ab温,= "1#', max_size=10).filter(
    lambda one: not re.fullmatch(r"\s*[-+]?[\d.].*", one)
)
VALUE = st.one_of(WHOLE, NUMBER, st.booleans(), TEXT)


def escaped(name: str) -> str:
    return re.sub(r"([,= ])", r"\\\1", name)


def written(value: float | bool | str) -> str:
    if isinstance(value, str):
        return '"{}"'.format(value.replace('"', '\\"'))
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value}i" if isinstance(value, int) else repr(value)


@given(
    measurement=NAME.filter(lambda one: "=" not in one),
    tags=st.dictionaries(NAME, NAME, max_size=4),
    fields=st.dictionaries(NAME, VALUE, min_size=1, max_size=6),
    ts=st.none() | st.integers(-(2**62), 2**62),
)
@settings(max_examples=200)
def test_a_line_means_what_another_parser_reads(
    measurement: str, tags: dict[str, str], fields: dict[str, Any], ts: int | None
) -> None:
    head = ",".join(
        [escaped(measurement), *(f"{escaped(k)}={escaped(v)}" for k, v in tags.items())]
    )
    listed = ",".join(f"{escaped(key)}={written(value)}" for key, value in fields.items())
    line = f"{head} {listed}" + ("" if ts is None else f" {ts}")
    other = line_protocol_parser.parse_line(line.encode())
    assert (other["measurement"], other["tags"], other["fields"]) == (measurement, tags, fields)
    assert other["time"] == ts

    decoded = decode(line.encode(), {"device_tags": "[]"}, NOW)
    assert decoded.refused == []
    assert decoded.attributes.get("", {}) == tags
    at = NOW if other["time"] is None else other["time"] // 1_000_000
    numbers = {k: float(v) for k, v in other["fields"].items() if not isinstance(v, str)}
    texts = {k: v for k, v in other["fields"].items() if isinstance(v, str)}
    texts |= {k: str(v).lower() for k, v in other["fields"].items() if isinstance(v, bool)}
    prefix = f"{measurement}_"
    assert {m.removeprefix(prefix): v for _, m, _, v in decoded.samples} == numbers
    assert {m.removeprefix(prefix): v for _, m, _, v in decoded.texts} == texts
    assert {one[2] for one in [*decoded.samples, *decoded.texts]} == {at}


@pytest.mark.parametrize(
    ("line", "other", "ours"),
    [
        (rb"m\=n f=1", 1, 1),  # only the name differs
        (b"m f=1e-310", None, 1),
        (b"m,t=1,t=2 f=1", None, 0),
        (b"m f=1,f=2", 1, 1),
        (b"m f=1 ", 1, 1),
        (b"m  f=1   5", 1, 1),
        (b"m f=nan", None, 0),
        (b"m f=1e400", None, 0),
        (b"m f=99999999999999999999i", None, 0),
        (b"m,t=a=b f=1", None, 0),
    ],
)
def test_corners_beside_the_other_parser(line: bytes, other: int | None, ours: int) -> None:
    try:
        found = len(line_protocol_parser.parse_line(line)["fields"])
    except line_protocol_parser.LineFormatError:
        found = None
    assert found == other
    assert len(decode(line, {}, NOW).samples) == ours


# --- cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SHAPES, *FULL])
def test_no_shape_is_quadratic(name: str) -> None:
    shape = {**SHAPES, **FULL}[name]
    body = shape(300_000)
    began = time.process_time()
    decode(body, {}, NOW)
    assert time.process_time() - began < 2.0  # far more than it takes; quadratic would be minutes


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", [*SHAPES, *FULL])
def test_the_largest_body_of_any_shape_takes_a_second_and_little_memory(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes({**SHAPES, **FULL}[name](25_000_000))
    program = Path(__file__).with_name("line_shapes.py")
    command = [sys.executable, str(program), str(path)]
    output = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=_here())
    spent = json.loads(output.stdout)
    assert spent["seconds"] < (1.5 if name in SHAPES else 10.0)
    assert spent["mb"] < 230  # with the body itself: 256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "least"), [("rms=1.5", 80_000), ("a=1.5,b=2i,c=3.25,d=-1e3,e=0.001,f=7", 300_000)]
)
def test_values_per_second(fields: str, least: int) -> None:
    lines = [
        f"vib,sn=A{number % 50},site=ningbo {fields} {number}000000" for number in range(20_000)
    ]
    body, best = "\n".join(lines).encode(), math.inf
    for _ in range(5):
        began = time.process_time()
        found = len(decode(body, {}, NOW).samples)
        best = min(best, time.process_time() - began)
    assert found / best > least


def _here() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.timeout(600)
@given(
    st.one_of(st.binary(max_size=3000), st.lists(PIECES, max_size=30).map("".join).map(str.encode))
)
@settings(max_examples=2_000)
def test_whatever_comes_is_read_or_refused_for_long(body: bytes) -> None:
    decoded = decode(body, {}, NOW)
    assert all(math.isfinite(one[3]) for one in decoded.samples)
