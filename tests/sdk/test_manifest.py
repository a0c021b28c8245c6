"""A manifest is checked when it is read: one line for the first thing that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.sdk.errors import ConfigError
from hub.sdk.loading import validate
from hub.sdk.manifest import Limits, Manifest, read_manifest, seconds_of

CONNECTORS = Path(__file__).parents[2] / "connectors"

GOOD: dict[str, Any] = {
    "connector": "acme",
    "version": "1.0.0",
    "contract": 1,
    "title": {"zh": "测试", "en": "Test"},
    "config": {"base_url": "url"},
    "envelope": {"ok": {"path": "code", "in": [0]}},
}
STREAM = {"key": ["id"], "request": {"get": "/x"}, "data": "rows"}
SINK = {"safety": "upsert", "key": "id", "request": {"post": "/x"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"envelope": None}, "`envelope` is mandatory"),
        ({"envelop": {}}, "did you mean 'envelope'"),
        ({"contract": 2}, "contract"),
        ({"connector": "Acme"}, "connector"),
        ({"account": ["user"]}, "account names 'user'"),
        ({"envelope": {"ok": {"path": "x"}}}, "either `in` (values) or `is`"),
        ({"envelope": {"ok": {"path": "x", "is": "list"}, "errors": [{"as": "retry"}]}}, "give"),
        ({"auth": {"kind": "api_key"}}, "either header or query"),
        ({"auth": {"kind": "magic"}}, "magic"),
        ({"limits": {"rate": "2/fortnight"}}, "fortnight"),
        ({"limits": {"tries": 0}}, "tries"),
        ({"streams": {"a": {**STREAM, "key": []}}}, "key"),
        ({"streams": {"a": {**STREAM, "request": {"get": "/", "post": "/"}}}}, "exactly one"),
        ({"streams": {"a": {**STREAM, "page": {"kind": "number", "sise": 3}}}}, "'size'"),
        ({"sinks": {"a": {**SINK, "batch": 2}}}, "needs `receipts`"),
        ({"sinks": {"a": {**SINK, "find": "hooks.Find It"}}}, "find"),
        ({"sinks": {"a": {**SINK, "poll": {"url": "u", "tries": 0}}}}, "tries"),
    ],
)
def test_a_wrong_manifest_is_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Manifest, {**GOOD, **change}, "acme/connector.yaml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("acme/connector.yaml")


def test_a_pattern_that_does_not_compile_is_refused_when_read() -> None:
    rule = {"match": {"msg": "(token"}, "as": "reauth"}
    envelope = {"ok": {"path": "code", "in": [0]}, "errors": [rule]}
    with pytest.raises(ConfigError, match="does not compile"):
        validate(Manifest, {**GOOD, "envelope": envelope}, "x")


@pytest.mark.parametrize("safety", ["look_up", "idempotency_key"])
def test_only_a_harmless_sink_writes_in_batches(safety: str) -> None:
    receipts = {"items": "r", "key": "id", "ok": {"path": "ok", "in": [True]}}
    sink = {**SINK, "safety": safety, "batch": 2, "receipts": receipts}
    with pytest.raises(ConfigError, match="one record per call"):
        validate(Manifest, {**GOOD, "sinks": {"a": sink}}, "x")


def test_durations_rates_and_sizes_are_written_as_people_do() -> None:
    limits = validate(
        Limits, {"rate": "120/min", "deadline": "1m", "connect": 2, "max_bytes": "5MB"}, "x"
    )
    assert (limits.rate, limits.deadline, limits.connect) == (2.0, 60.0, 2.0)
    assert limits.max_bytes == 5_000_000
    assert (seconds_of("1d"), seconds_of("1.5h"), seconds_of("2024-01-01")) == (
        86400.0,
        5400.0,
        None,
    )


@pytest.mark.parametrize(
    "path", sorted(CONNECTORS.glob("*/connector.yaml")), ids=lambda p: p.parent.name
)
def test_every_built_in_manifest_is_good(path: Path) -> None:
    manifest = read_manifest(path.parent)
    assert manifest.connector == path.parent.name
