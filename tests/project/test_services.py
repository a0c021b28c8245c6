"""The rules about servers that tests need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, text

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {
    "HUB_TEST_POSTGRES": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    "HUB_TEST_MQTT": "mqtt://127.0.0.1:1",
    "HUB_TEST_NATS": "nats://127.0.0.1:1",
}
PROBE = """
import pytest

@pytest.mark.postgres
def test_needs_a_database(): pass

@pytest.mark.mqtt
def test_needs_a_broker(): pass

@pytest.mark.nats
def test_needs_a_stream(): pass
"""


def run_probe(tmp_path: Path, **environment: str) -> str:
    """pytest's output for tests that each need a server that is not there, with our conftest."""
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests/conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "-p", "no:cacheprovider", str(probe)],
        env={**os.environ, "HUB_TEST_REQUIRE": "", **NOWHERE, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_a_missing_server_skips_with_a_reason(tmp_path: Path) -> None:
    output = run_probe(tmp_path)
    assert "3 skipped" in output, output
    for name in ("postgres", "mqtt", "nats"):
        assert f"{name} is not there" in output


def test_a_required_missing_server_fails_and_the_others_skip(tmp_path: Path) -> None:
    output = run_probe(tmp_path, HUB_TEST_REQUIRE="postgres,nats")
    assert "1 skipped, 2 errors" in output, output
    assert "HUB_TEST_REQUIRE asks for it" in output


def test_an_unknown_required_server_is_wrong_usage(tmp_path: Path) -> None:
    output = run_probe(tmp_path, HUB_TEST_REQUIRE="mqqt")
    assert "HUB_TEST_REQUIRE names 'mqqt'" in output


def test_a_postgres_database_is_new_and_empty(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM information_schema.tables WHERE table_schema='public'")
        assert connection.scalar(query) == 0
    engine.dispose()
