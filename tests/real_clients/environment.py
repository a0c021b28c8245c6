"""Environments of their own for real client libraries, which never enter the project's lock.

    python = client_environment("influxdb", "influxdb==5.3.2", "requests==2.34.2")
    output = run_client(python, SCRIPT, url, token)  # SCRIPT: the text of a program, or its path

An environment is made once per set of pins and kept in `.cache/real-clients/NAME-HASH` of the
checkout (HUB_TEST_CLIENTS names another folder). Where it cannot be made (no network, no such
release) the test is skipped with the reason; with `real_clients` in HUB_TEST_REQUIRE it fails.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SCRIPTS = "Scripts" if os.name == "nt" else "bin"


class NotMade(Exception):
    """The environment cannot be made; the text says why, on one line."""


def client_environment(
    name: str, *pins: str, sources: bool = False, seconds: float = 300.0
) -> Path:
    """A python that imports the pinned packages and nothing of this project.

    `sources` allows packages that have no wheel; `seconds` is how long installing may take (give
    the first test a `pytest.mark.timeout` to match).
    """
    try:
        made = _made(name, pins, sources, seconds)
    except NotMade as problem:
        text = f"no environment for {name}: {problem}"
        if "real_clients" in os.environ.get("HUB_TEST_REQUIRE", "").split(","):
            pytest.fail(f"{text}; HUB_TEST_REQUIRE asks for it", pytrace=False)
        pytest.skip(text)
    return made


def run_client(python: Path, script: str | Path, *arguments: str, seconds: float = 60.0) -> str:
    """What the program prints. A program that fails fails the test, with what it said."""
    command = [str(script)] if isinstance(script, Path) else ["-c", script]
    done = subprocess.run(
        [str(python), "-X", "utf8", *command, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        env=client_variables(),
        cwd=python.parent.parent,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"the client ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def client_variables() -> dict[str, str]:
    """Environment variables for a client: none that lead to this project or to a proxy."""
    unwanted = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_USER"}
    unwanted |= {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    return {key: value for key, value in os.environ.items() if key.upper() not in unwanted}


@functools.cache
def _outcome(name: str, pins: tuple[str, ...], sources: bool, seconds: float) -> Path | NotMade:
    digest = hashlib.sha256(repr((pins, sys.version_info[:2])).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("HUB_TEST_CLIENTS") or ROOT / ".cache" / "real-clients")
    folder = cache / f"{name}-{digest}"
    python = folder / _SCRIPTS / ("python.exe" if os.name == "nt" else "python")
    ready = folder / "ready.txt"
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache / f"{folder.name}.lock"):
        if ready.exists() and python.exists():
            return python
        try:
            _make(folder, python, pins, sources, seconds)
        except NotMade as problem:
            shutil.rmtree(folder, ignore_errors=True)
            return problem
        ready.write_text("\n".join(pins) + "\n", encoding="utf-8")
    return python


def _made(name: str, pins: tuple[str, ...], sources: bool, seconds: float) -> Path:
    """Trying is remembered, so that a missing network costs one wait, not one per test."""
    outcome = _outcome(name, pins, sources, seconds)
    if isinstance(outcome, NotMade):
        raise outcome
    return outcome


def _make(folder: Path, python: Path, pins: tuple[str, ...], sources: bool, seconds: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], seconds)
    binary = [] if sources else ["--only-binary", ":all:"]
    uv = shutil.which("uv")
    if uv and not subprocess.run([uv, "--version"], capture_output=True, check=False).returncode:
        try:
            _run(
                [uv, "pip", "install", "--quiet", "--python", str(python), *binary, *pins], seconds
            )
        except NotMade:
            pass  # an index is often known to pip only
        else:
            return
    _run([str(python), "-m", "ensurepip", "--default-pip"], seconds)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--retries", "1"]
    _run([*pip, *binary, *pins], seconds)


def _run(command: list[str], seconds: float) -> None:
    variables = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={"UV_HTTP_TIMEOUT": "30", **variables},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMade(f"{Path(command[0]).name}: {error}") from None
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotMade(next((x for x in said if "error" in x.lower()), "".join(said[-1:]) or "?"))


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two workers never make one environment at once."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
