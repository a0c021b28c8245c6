"""What every connector must do, whoever wrote it: the suite runs over all that are found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hub.sdk.connection import resolve_connection
from hub.sdk.errors import ConfigError
from hub.sdk.loading import load_yaml
from hub.sdk.records import Safety
from hub.sdk.registry import Connector, discover
from hub.sdk.testing import FakeServer, Fault
from tests.connectors.conftest import OpenSession, connect, fake_of

QUALITY = {
    "contract-suite",
    "config-tested",
    "stable-ids",
    "reauthorisation",
    "rate-limit",
    "errors-mapped",
    "owner",
    "reconciliation",
    "diagnostics",
    "both-languages",
    "limits-documented",
    "proven-live",
    "under-load",
}
NAMES = sorted(discover().connectors)
WITH_FAKE = [name for name in NAMES if (discover().get(name).folder / "fake.py").is_file()]


@pytest.fixture(params=NAMES)
def connector(request: pytest.FixtureRequest) -> Connector:
    return discover().get(request.param)


@pytest.fixture(params=WITH_FAKE)
def server(request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    server = fake_of(request.param)
    assert server is not None
    server.name = request.param  # type: ignore[attr-defined]
    with server:
        yield server


def name_of(server: FakeServer) -> str:
    return str(server.name)  # type: ignore[attr-defined]


# --- files ------------------------------------------------------------------------------------


def test_every_connector_loads_and_the_built_in_ones_are_there() -> None:
    found = discover()
    assert {name: str(error) for name, error in found.broken.items()} == {}
    assert {"crm", "rest", "u8"} <= set(found.connectors)


def test_finding_connectors_imports_none_of_their_code() -> None:
    code = (
        "import sys; from hub.sdk.registry import discover; discover(); "
        "print([m for m in sys.modules if m.startswith('connectors.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_titles_stand_in_both_languages(connector: Connector) -> None:
    parts = [*connector.manifest.streams.values(), *connector.manifest.sinks.values()]
    for title in [connector.manifest.title, *(part.title for part in parts)]:
        assert title is not None
        assert title.zh.strip()
        assert title.en.strip()
        assert not title.zh.isascii()


def test_the_readme_speaks_of_purpose_limits_errors_and_shows_the_sample(
    connector: Connector,
) -> None:
    readme = (connector.folder / "README.md").read_text(encoding="utf-8")
    sample = (connector.folder / "sample.yaml").read_text(encoding="utf-8")
    for word in ("limit", "error"):
        assert word in readme.lower()
    if "```yaml" in readme:
        assert sample.strip() in readme, "README.md must show sample.yaml as it is"


def test_the_sample_is_a_valid_connection_without_a_secret_in_it(connector: Connector) -> None:
    entries = load_yaml(connector.folder / "sample.yaml")
    entries = entries.get("connections", entries)
    assert entries
    for name, entry in entries.items():
        assert entry["connector"] == connector.name
        config = dict(entry["config"])
        for field, declared in connector.manifest.config.items():
            if declared.type == "secret" and field in config:
                assert str(config[field]).partition(":")[0] in ("env", "file", "store")
                config[field] = "store"
        resolve_connection(name, {**entry, "config": config}, connector, lambda *_: "secret")


def test_quality_rules_are_known_and_honest(connector: Connector) -> None:
    for rule, state in connector.manifest.quality.items():
        assert rule in QUALITY
        if state != "done":
            assert isinstance(state, dict)
            ((word, reason),) = state.items()
            assert word in ("todo", "exempt")
            assert len(reason) > 10
    assert connector.manifest.quality["contract-suite"] == "done"


# --- declarations -----------------------------------------------------------------------------


def test_streams_have_a_key_and_a_place_for_their_rows(connector: Connector) -> None:
    for stream in connector.manifest.streams.values():
        assert stream.key
        assert stream.data
        assert set(stream.defaults) <= set(stream.key)


def test_sinks_say_how_a_repeated_write_is_made_harmless(connector: Connector) -> None:
    for sink in connector.manifest.sinks.values():
        assert sink.key
        if sink.safety is Safety.LOOK_UP:
            assert sink.find is not None
            assert sink.visibility_lag > 0


def test_every_failure_has_a_class(connector: Connector) -> None:
    envelope = connector.manifest.envelope
    if envelope is not None:
        assert envelope.errors[-1].else_ is not None
        assert envelope.message is not None


def test_settings_without_an_obvious_meaning_are_explained(connector: Connector) -> None:
    for name, field in connector.manifest.config.items():
        assert field.help, name


def test_an_account_setting_that_is_left_out_is_an_error(connector: Connector) -> None:
    required = [n for n, f in connector.manifest.config.items() if not f.optional and not f.default]
    for name in required:
        settings: dict[str, Any] = {
            other: "http://127.0.0.1:1" if field.type == "url" else "1"
            for other, field in connector.manifest.config.items()
            if other != name
        }
        entry = {"envelope": {"ok": {"path": "$", "is": "list"}}} if connector.manifest.open else {}
        with pytest.raises(ConfigError, match=name):
            connect(connector, settings, **entry)


# --- against the fake -------------------------------------------------------------------------


def test_the_check_passes_against_the_fake(server: FakeServer, open_session: OpenSession) -> None:
    session = open_session(name_of(server), server)
    results = session.check()
    assert [result.message() for result in results if not result.ok] == []
    assert len(results) == 2 + len(session.connection.manifest.streams)


def test_records_carry_stable_ids(server: FakeServer, open_session: OpenSession) -> None:
    session = open_session(name_of(server), server)
    for name in session.connection.manifest.streams:
        reads = []
        for _ in range(2):
            reader = session.stream(name)
            keys = [
                tuple(row[field] for field in reader.key)
                for page in reader.read(None)
                for row in page.rows
            ]
            assert len(set(keys)) == len(keys), name
            assert not {None, ""} & {part for key in keys for part in key}, name
            reads.append(sorted(map(str, keys)))
        assert reads[0] == reads[1]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.RESET,
        Fault.EARLY_CLOSE,
        Fault.CUT_BODY,
        Fault.GARBAGE,
        Fault.HTML_200,
        Fault.GBK_JSON,
        Fault.GZIP_BOMB,
        Fault.REDIRECT_LOOP,
        Fault.EMPTY_BODY,
        Fault.STATUS,
        Fault.TOO_MANY_REQUESTS,
    ],
)
def test_a_lasting_fault_is_one_clear_line_and_never_a_crash(
    server: FakeServer, open_session: OpenSession, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    server.misbehave(fault, times=None)
    session = open_session(name_of(server), server)
    failed = [result for result in session.check() if not result.ok]
    assert failed
    secrets = [str(session.connection.config[name]) for name in session.connection.config.secrets]
    for result in failed:
        for language in ("en", "zh"):
            message = result.message(language)
            assert message
            assert "\n" not in message
            assert not any(secret in message for secret in secrets)
    assert not any(secret in caplog.text for secret in secrets)


def test_a_short_trouble_is_overcome(server: FakeServer, open_session: OpenSession) -> None:
    session = open_session(name_of(server), server)
    assert all(result.ok for result in session.check())
    stream = next(iter(session.connection.manifest.streams))
    for fault in (Fault.STATUS, Fault.RESET, Fault.TOO_MANY_REQUESTS):
        server.misbehave(fault)
        assert list(session.stream(stream).read(None)), fault


def test_the_declared_rate_is_kept(server: FakeServer, open_session: OpenSession) -> None:
    session = open_session(name_of(server), server)
    rate = session.connection.manifest.limits.rate
    assert rate is not None
    session.check()
    assert sum(session_clock(session).slept) >= (server.count() - 2) / rate * 0.9


def session_clock(session: Any) -> Any:
    return session.client.clock
