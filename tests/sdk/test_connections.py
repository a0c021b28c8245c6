"""Connectors are found without being imported; connections are checked before they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.sdk.connection import Connection, resolve_connection
from hub.sdk.errors import ConfigError
from hub.sdk.registry import Connector, Discovery, discover

Connect = Callable[..., Connection]

MANIFEST = """
connector: {name}
version: 1.0.0
contract: 1
title: {{zh: 测试, en: Test}}
config: {{base_url: url}}
envelope: {{ok: {{path: code, in: [0]}}}}
"""


def put(folder: Path, name: str, text: str | None = None, hooks: str | None = None) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / "connector.yaml").write_text(text or MANIFEST.format(name=name), encoding="utf-8")
    if hooks is not None:
        (place / "hooks.py").write_text(hooks)
    return place


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with one installed distribution that offers connectors."""
    site = tmp_path / "site"
    info = site / "acme_tools-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.0\n")
    entries = "[hub.connectors]\nacme = acmepack.acme\ngone = acmepack.gone\nbad = acmepack.bad\n"
    (info / "entry_points.txt").write_text(entries)
    (site / "acmepack").mkdir()
    (site / "acmepack" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for name, text in (("acme", None), ("bad", "connector: bad\n")):
        (put(site / "acmepack", name, text) / "__init__.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_installed_connectors_are_found_without_importing_them(installed: Path) -> None:
    found = discover()
    acme = found.get("acme")
    assert (acme.folder, acme.package) == (installed / "acmepack" / "acme", "acmepack.acme")
    assert not [name for name in sys.modules if name.startswith("acmepack")]


def test_a_broken_connector_does_not_stop_the_others(installed: Path) -> None:
    found = discover()
    assert "acme" in found.connectors
    assert {"gone", "bad"} <= set(found.broken)
    with pytest.raises(ConfigError, match=r"acmepack\.gone"):
        found.get("gone")
    with pytest.raises(ConfigError, match=r"connector\.yaml"):
        found.get("bad")


def test_a_deployment_brings_its_own_connectors(tmp_path: Path) -> None:
    put(tmp_path, "mine")
    put(tmp_path, "torn", "connector: [")
    put(tmp_path, "deep", "a: " + "[" * 5000)
    put(tmp_path, "renamed", MANIFEST.format(name="other"))
    found = discover(tmp_path)
    assert found.get("mine").package is None
    assert {"torn", "deep", "renamed"} <= set(found.broken)


def test_a_deployment_replaces_an_installed_connector(installed: Path, tmp_path: Path) -> None:
    put(tmp_path / "own", "acme")
    put(tmp_path / "own", "bad")
    found = discover(tmp_path / "own")
    assert found.get("acme").folder == tmp_path / "own" / "acme"
    assert "bad" not in found.broken


def test_an_unknown_connector_comes_with_a_suggestion(tmp_path: Path) -> None:
    put(tmp_path, "mine")
    with pytest.raises(ConfigError, match="did you mean 'mine'"):
        discover(tmp_path).get("mien")
    with pytest.raises(ConfigError):
        Discovery().get("x")


def test_hooks_of_a_deployment_are_loaded_when_asked_for(tmp_path: Path) -> None:
    place = put(tmp_path, "mine", hooks="def greet():\n    return 'hello'\n")
    connector = discover(tmp_path).get("mine")
    (place / "hooks.py").write_text("def greet():\n    return 'late'\n")
    assert connector.hook("hooks.greet")() == "late"


@pytest.mark.parametrize("hooks", [None, "raise ValueError('torn')\n", "def x(:\n"])
def test_hooks_that_do_not_load_are_named(tmp_path: Path, hooks: str | None) -> None:
    put(tmp_path, "mine", hooks=hooks)
    with pytest.raises(ConfigError, match=r"hooks\.py"):
        discover(tmp_path).get("mine").hook("hooks.greet")


# --- connections ------------------------------------------------------------------------------

CONFIG = {
    "base_url": "url",
    "user": "str",
    "port": {"type": "int", "default": 8080},
    "strict": {"type": "bool", "optional": True},
    "secret": "secret",
    "spare": {"type": "secret", "optional": True},
}
GOOD = {"base_url": "http://erp.local", "user": "hub", "secret": "store"}


def settings(connect: Connect, **changes: Any) -> Connection:
    given = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    return connect({"config": given}, config=CONFIG, account=["base_url", "user"])


def test_settings_are_typed_and_defaults_filled_in(connect: Connect, canary: str) -> None:
    connection = settings(connect, strict=True)
    assert dict(connection.config) == {
        "base_url": "http://erp.local",
        "user": "hub",
        "port": 8080,
        "strict": True,
        "secret": canary,
        "spare": canary,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": ...}, "setting user is missing"),
        ({"usr": "x"}, "unknown setting usr; did you mean 'user'"),
        ({"base_url": "erp.local"}, "not an http"),
        ({"base_url": "http://a:b@erp.local"}, "not an http"),
        ({"port": "many"}, "whole number"),
        ({"strict": "maybe"}, "true or false"),
        ({"secret": "hunter2"}, "plain text"),
        ({"secret": "env:HUB_TEST_ABSENT"}, "HUB_TEST_ABSENT"),
        ({"secret": "file:/nowhere/at/all"}, "/nowhere/at/all"),
        ({"secret": 5}, "plain text"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_next_step(
    connect: Connect, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(connect, **changes)
    text = str(caught.value)
    assert words in text
    assert "shop" in text
    assert "hunter2" not in text + caught.value.message("zh") + repr(caught.value)


def test_secrets_come_from_environment_file_or_store(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: str
) -> None:
    monkeypatch.setenv("HUB_TEST_SECRET", "from-env")
    (tmp_path / "secret").write_text("from-file\n")
    assert settings(connect, secret="env:HUB_TEST_SECRET").config["secret"] == "from-env"
    assert settings(connect, secret=f"file:{tmp_path}/secret").config["secret"] == "from-file"
    assert settings(connect, secret="store").config["secret"] == canary
    (tmp_path / "secret").write_text(" \n")
    with pytest.raises(ConfigError, match="empty"):
        settings(connect, secret=f"file:{tmp_path}/secret")


def test_a_secret_that_is_not_stored_yet_names_the_command(connect: Connect) -> None:
    connector = settings(connect).connector
    with pytest.raises(ConfigError, match="hub connection set-secret erp secret"):
        resolve_connection("erp", {"connector": "acme", "config": GOOD}, connector, lambda *_: None)


def test_limits_may_be_tightened_but_a_closed_connector_stays_as_it_is(connect: Connect) -> None:
    connection = connect({"limits": {"rate": "1/min"}})
    assert connection.manifest.limits.rate == pytest.approx(1 / 60)
    assert connection.manifest.limits.tries == 3
    with pytest.raises(ConfigError, match="use the connector rest"):
        connect({"envelope": {"ok": {"path": "x", "in": [1]}}})
    with pytest.raises(ConfigError, match="rates"):
        connect({"limits": {"rates": 1}})
    with pytest.raises(ConfigError, match="did you mean 'egress'"):
        connect({"egres": []})


def test_the_account_is_the_same_for_the_same_account_settings(connect: Connect) -> None:
    one, same = settings(connect), settings(connect, port=9)
    other = settings(connect, user="someone else")
    assert one.account == same.account != other.account
    assert one.account.startswith("acme:")
    assert len(one.account) == len("acme:") + 12


def test_nothing_printed_of_a_connection_holds_its_secret(connect: Connect, canary: str) -> None:
    connection = settings(connect)
    assert canary not in repr(connection) + str(connection.config) + f"{connection.config}"
    assert canary not in connection.mask(f"your secret {canary} is wrong")


# --- the open connector -----------------------------------------------------------------------

REST = Path(__file__).parents[2] / "connectors" / "rest"


def test_the_rest_sample_is_a_working_connection() -> None:
    import yaml

    from hub.sdk.manifest import read_manifest

    sample = yaml.safe_load((REST / "sample.yaml").read_text(encoding="utf-8"))
    connector = Connector("rest", read_manifest(REST), REST)
    for name, spec in sample.items():
        connection = resolve_connection(name, spec, connector, lambda *_: "stored")
        assert connection.manifest.streams
        assert connection.manifest.envelope is not None


def test_an_open_connection_must_say_what_success_looks_like() -> None:
    from hub.sdk.manifest import read_manifest

    connector = Connector("rest", read_manifest(REST), REST)
    spec = {"connector": "rest", "config": {"base_url": "https://api.example.com"}}
    with pytest.raises(ConfigError, match=r"envelope: \{ok"):
        resolve_connection("api", spec, connector, lambda *_: None)
