"""What holds for every decoder of JSON, whatever it is given."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.iot.decoders import DECODERS
from connectors.iot.values import name_of
from hub.sdk.telemetry import CODES, Decoded
from tests.connectors.iot import heavy

NOW = heavy.NOW
CONTENT = ["device", "ts", "values", "readings", "data", "data_base64", "a", "温度", "\0", ""]
CONTEXT = ["id", "source", "type", "specversion", "subject", "time", "datacontenttype"]
NAMES = st.sampled_from([*CONTENT, *CONTEXT])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([NOW, "1.0", "2026-11-25T08:00:00Z", "3.3", 1e308, "A"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


def decode(name: str, body: bytes, **details: str) -> Decoded:
    told = {**heavy.details_of(name), **details}
    return DECODERS[name.partition(" ")[0]](body, told, NOW)


def require_sound(decoded: Decoded) -> None:
    """Everything in it can be stored."""
    for device, metric, ts, value in decoded.samples:
        assert math.isfinite(value)
        assert isinstance(value, float)
        assert 0 <= ts < 2**53
        assert name_of(metric) == metric
        assert device in ("", name_of(device))
    for text in decoded.texts:
        assert "\0" not in text.text
        text.text.encode()
    for refused in decoded.refused:
        assert refused.code in CODES
        json.dumps(refused).encode()
    orjson.dumps([decoded.attributes, decoded.kinds])


@pytest.mark.parametrize("name", heavy.FORMATS)
@given(
    body=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_read_or_refused(name: str, body: bytes) -> None:
    decoded = decode(name, body)
    require_sound(decoded)
    assert decoded == decode(name, body)


@pytest.mark.parametrize("name", heavy.FORMATS)
@given(value=JSON, alone=st.booleans())
def test_any_json_is_read_or_refused_and_always_the_same_way(
    name: str, value: Any, alone: bool
) -> None:
    body = json.dumps(value).encode()
    speaks_for = "itself" if alone else "others"
    decoded = decode(name, body, speaks_for=speaks_for, mode="")
    require_sound(decoded)
    again = decode(name, body, speaks_for=speaks_for, mode="")
    assert decoded == again


@pytest.mark.parametrize("name", heavy.FORMATS)
@given(body=st.binary(max_size=30), cut=st.integers(0, 60))
@settings(max_examples=30)
def test_a_message_cut_or_spoilt_on_its_way_is_read_or_refused(
    name: str, body: bytes, cut: int
) -> None:
    whole = b'[{"device":"pump","ts":1795593600000,"values":{"t":1.5,"on":true}}]'
    require_sound(decode(name, whole[:cut] + body + whole[cut + len(body) :]))


@pytest.mark.parametrize("name", heavy.FORMATS)
def test_deep_json_is_refused_and_not_followed(name: str) -> None:
    for levels in (300, 900, 1_100, 100_000):
        for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
            body = opened * levels + b"1" + closed * levels
            require_sound(decode(name, body))
            require_sound(decode(name, b'{"a":' + body + b"}"))


def measured(body: str) -> dict[str, dict[str, float]]:
    script = Path(heavy.__file__)
    root = script.parents[3]
    done = subprocess.run(
        [sys.executable, str(script), body],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
@pytest.mark.parametrize("body", heavy.BODIES)
def test_no_message_takes_more_than_a_second_or_256_megabytes(body: str) -> None:
    for name, found in measured(body).items():
        assert found["seconds"] < 2, (name, found)  # a second, on a machine that is busy
        assert found["megabytes"] < 256, (name, found)
        assert found["refused"] <= 10_001
