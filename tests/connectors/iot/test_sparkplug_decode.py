from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.decoders import DECODERS
from connectors.iot.sparkplug.decode import decode_sparkplug
from connectors.iot.sparkplug.payload import Malformed, parse_payload
from hub.sdk.telemetry import Decoded
from tests.connectors.iot.edge import payload

NODE = {"group": "plant", "edge": "line1", "type": "NDATA"}
DEVICE = {**NODE, "device": "pump", "type": "DDATA"}
AT = 1_700_000_000_000
NOW = AT + 500


def read(*metrics: dict[str, object], **more: str) -> Decoded:
    return decode_sparkplug(payload(*metrics), {**NODE, **more}, NOW)


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "value"),
    [
        (1, "int_value", 0xFF, -1),
        (1, "int_value", 0xFFFFFFFF, -1),
        (1, "int_value", 0xFFFFFF80, -128),
        (1, "int_value", 127, 127),
        (2, "int_value", 0x8000, -32768),
        (2, "int_value", 0xFFFF8000, -32768),
        (3, "int_value", 0x80000000, -(2**31)),
        (3, "int_value", 2**31 - 1, 2**31 - 1),
        (3, "long_value", 2**64 - 5, -5),
        (4, "long_value", 2**64 - 1, -1),
        (4, "long_value", 2**63, -(2.0**63)),
        (5, "int_value", 255, 255),
        (6, "int_value", 65535, 65535),
        (7, "int_value", 2**32 - 1, 2**32 - 1),
        (7, "long_value", 2**32 - 1, 2**32 - 1),
        (8, "long_value", 2**64 - 1, 2.0**64),
        (9, "float_value", 1.5, 1.5),
        (10, "double_value", 0.1, 0.1),
        (13, "long_value", AT, AT),
        (0, "int_value", 7, 7),
        (12, "string_value", "3.3", 3.3),
    ],
)
def test_a_number_is_read_by_its_datatype(
    datatype: int, field: str, raw: object, value: float
) -> None:
    found = read({"name": "m", "datatype": datatype, field: raw})
    assert found.samples == [("plant/line1", "m", AT, float(value))]
    assert not found.refused


def test_a_boolean_is_a_number_and_a_text() -> None:
    found = read({"name": "m", "datatype": 11, "value": True})
    assert found.samples == [("plant/line1", "m", AT, 1.0)]
    assert found.texts == [("plant/line1", "m", AT, "true")]


def test_texts_stay_texts() -> None:
    found = read({"name": "状态/主", "datatype": 14, "value": "运行"}, device="泵1")
    assert found.texts == [("plant/line1/泵1", "状态/主", AT, "运行")]


@pytest.mark.parametrize(
    ("metric", "code"),
    [
        ({"name": "m", "datatype": 1, "int_value": 300}, "invalid"),
        ({"name": "m", "datatype": 5, "int_value": 256}, "invalid"),
        ({"name": "m", "datatype": 10, "double_value": float("nan")}, "invalid"),
        ({"name": "m", "datatype": 9, "float_value": float("inf")}, "invalid"),
        ({"name": "m", "datatype": 10, "string_value": "x"}, "malformed"),
        ({"name": "m", "datatype": 16, "dataset_value": b"x"}, "unsupported"),
        ({"name": "m", "datatype": 17, "bytes_value": b"x"}, "unsupported"),
        ({"name": "m", "datatype": 18, "bytes_value": b"x"}, "unsupported"),
        ({"name": "m", "datatype": 19, "template_value": b"x"}, "unsupported"),
        ({"name": "m", "datatype": 24, "bytes_value": b"xxxx"}, "unsupported"),
        ({"name": "m", "datatype": 99, "int_value": 1}, "unsupported"),
        ({"name": "m", "datatype": 10}, "malformed"),
        ({"alias": 4, "datatype": 10, "value": 1.0}, "name"),
        ({"name": "a\nb", "datatype": 10, "value": 1.0}, "name"),
        ({"name": b"\xff", "datatype": 10, "value": 1.0}, "malformed"),
        ({"name": "m", "datatype": 10, "value": 1.0, "timestamp": 2**63}, "bad_time"),
        ({"name": "m", "datatype": 12, "value": "a\0b"}, "invalid"),
    ],
)
def test_a_metric_that_cannot_be_read_spoils_only_itself(
    metric: dict[str, object], code: str
) -> None:
    found = read({"name": "good", "datatype": 10, "value": 1.0}, metric)
    assert [(one.place, one.code) for one in found.refused] == [(1, code)]
    assert found.samples == [("plant/line1", "good", AT, 1.0)]


def test_null_and_transient_metrics_are_no_readings() -> None:
    found = read(
        {"name": "a", "datatype": 10, "is_null": True},
        {"name": "b", "datatype": 10, "value": 1.0, "is_transient": True},
    )
    assert found == Decoded()


def test_the_time_is_the_metrics_else_the_payloads_else_the_receipt() -> None:
    own = {"name": "a", "datatype": 10, "value": 1.0, "timestamp": 5, "is_historical": True}
    assert read(own).samples[0].ts == 5
    assert read({"name": "a", "datatype": 10, "value": 1.0}).samples[0][2] == AT
    bare = payload({"name": "a", "datatype": 10, "value": 1.0}, timestamp=None)
    assert decode_sparkplug(bare, NODE, NOW).samples[0][2] == NOW


def test_births_and_deaths_are_states() -> None:
    assert read(type="NBIRTH").states == [("plant/line1", "online", AT)]
    assert read(type="DBIRTH", device="p").states == [("plant/line1/p", "online", AT)]
    assert read(type="DDEATH", device="p").states == [("plant/line1/p", "offline", AT)]
    died = read({"name": "bdSeq", "long_value": 1}, type="NDEATH", devices=json.dumps(["p", "q"]))
    assert died.samples == []
    assert died.states == [
        ("plant/line1", "offline", NOW),
        ("plant/line1/p", "stale", NOW),
        ("plant/line1/q", "stale", NOW),
    ]


def test_a_retained_message_without_times_gives_last_known_values() -> None:
    body = payload(
        {"name": "a", "datatype": 10, "value": 1.0},
        {"name": "b", "datatype": 10, "value": 2.0, "timestamp": 7},
        {"name": "c", "datatype": 12, "value": "x"},
        timestamp=None,
    )
    found = DECODERS["iot.sparkplug"](body, {**NODE, "retained": "1"}, NOW)
    assert found.last_known == [("plant/line1", "a", NOW, 1.0)]
    assert found.samples == [("plant/line1", "b", 7, 2.0)]
    assert found.texts == []


def test_every_format_knows_retained_messages() -> None:
    mapping = json.dumps({"device": "{d}", "metrics": {"t": "t"}, "time": {"path": "at"}})
    details = {"mapping": mapping, "capture.d": "x", "retained": "1"}
    decode = DECODERS["iot.mapped"]
    assert decode(b'{"t": 1}', details, NOW).last_known == [("x", "t", NOW, 1.0)]
    timed = decode(b'{"t": 1, "at": 1700000000000}', details, NOW)
    assert (timed.last_known, timed.samples) == ([], [("x", "t", AT, 1.0)])


# --- nonsense ---


@given(st.binary(max_size=300), st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DDEATH", "?"]))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    decode_sparkplug(body, {**NODE, "type": kind}, NOW)


GOOD = payload(
    {"name": "a", "alias": 3, "datatype": 10, "value": 1.0, "timestamp": AT},
    {"name": "b", "datatype": 12, "value": "text", "properties": b"\x0a\x01x"},
    {"name": "c", "datatype": 3, "int_value": 2**32 - 1},
    seq=3,
)


@given(st.data())
def test_a_damaged_payload_never_raises(data: st.DataObject) -> None:
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    found = decode_sparkplug(bytes(body[: data.draw(st.integers(0, len(body)))]), NODE, NOW)
    assert all(-(2**63) <= one[2] < 2**63 for one in found.samples)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=10))
def test_any_details_are_taken(group: str, edge: str, devices: str) -> None:
    decode_sparkplug(GOOD, {"group": group, "edge": edge, "devices": devices, "type": "NDEATH"}, 1)


def test_what_is_not_a_reading_travels_through_unchanged() -> None:
    parsed = parse_payload(GOOD)
    assert parsed.metrics[1].properties == b"\x0a\x01x"
    assert parsed.SerializeToString() == GOOD


def test_a_payload_with_too_many_metrics_is_refused_as_a_whole() -> None:
    with pytest.raises(Malformed):
        parse_payload(b"\x12\x00" * 200_000)
    found = decode_sparkplug(b"\x12\x00" * 200_000, NODE, NOW)
    assert [(one.place, one.code) for one in found.refused] == [(-1, "too_many")]


HOSTILE = """
import resource, sys, time
from pathlib import Path
from connectors.iot.sparkplug.decode import decode_sparkplug
limit = int(sys.argv[1])
bodies = [b"\\x12\\x00" * 4_000_000, b"\\x12\\x00" * 99_000, b"\\x1b" * 8_000_000,
          b"\\x08\\x01" * 4_000_000, b"\\x12\\x02\\x4a\\x00" * 99_000,
          b"\\x12\\x80\\x80\\x80\\x04" + b"\\x9a\\x01\\x00" * 2_000_000]
for body in bodies:
    began = time.process_time()
    decode_sparkplug(body, {"group": "g", "edge": "e", "type": "NDATA"}, 1)
    assert time.process_time() - began < 1, (body[:6], time.process_time() - began)
# ru_maxrss begins with the size of the process that started this one.
status = Path("/proc/self/status")
if status.exists():
    most = int(status.read_text().split("VmHWM:")[1].split()[0])
else:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert most < limit * 1024, most
"""


def test_hostile_payloads_take_less_than_a_second_and_256_megabytes() -> None:
    subprocess.run([sys.executable, "-c", HOSTILE, "256"], check=True, timeout=60)
