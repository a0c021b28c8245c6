#!/usr/bin/env python3
"""The project's own commands. Needs only Python 3.11 and pip (uses uv when it is there).

    python3 dev.py demo  [args]          run the three flows against fake systems
    python3 dev.py test  [pytest args]   run the tests (without arguments: all but the slow ones)
    python3 dev.py check [--full]        format, lint, types, imports, manifests, README, tests
    python3 dev.py bench NAME [args]     measure; without NAME: list what can be measured
    python3 dev.py fmt                   format and repair what ruff can repair
    python3 dev.py lock                  renew the two lock files (needs uv)

Each command first makes or renews `.venv` beside this file from the hash-locked requirements.
Exit codes: 0 fine, 1 failed, 2 wrong usage.
"""

# Old interpreters must be able to read this file far enough to print one clear line.
from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements-dev.lock"
STAMP = VENV / "hub-stamp.json"
WINDOWS = os.name == "nt"
BIN = VENV / ("Scripts" if WINDOWS else "bin")
PYTHON = BIN / ("python.exe" if WINDOWS else "python")
OLDEST = (3, 11)


class Failed(Exception):
    """A stage failed; the text is for the person at the keyboard."""


# --- the environment --------------------------------------------------------------------------


def ensure_environment() -> None:
    """Make `.venv` fit the lock file and the project; does nothing when it already does."""
    wanted = {"lock": _lock_digest(), "project": _project_digest()}
    with _only_one():
        have = _stamp()
        if have.get("lock") != wanted["lock"] or not PYTHON.exists():
            have = {}
            STAMP.unlink(missing_ok=True)
            _make_venv()
            _install_locked()
        if have.get("project") != wanted["project"]:
            _install_project()
            STAMP.write_text(json.dumps(wanted), encoding="utf-8")


def _lock_digest() -> str:
    """Changes with the lock file, the interpreter and the folder: each makes a venv unusable."""
    place = f"{sys.version_info[:3]} {sys.base_prefix} {ROOT}"
    return hashlib.sha256(LOCK.read_bytes() + place.encode()).hexdigest()


def _project_digest() -> str:
    import tomllib

    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = [described["project"], described["build-system"], described["tool"].get("hatch")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp() -> dict[str, str]:
    try:
        loaded = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


@contextlib.contextmanager
def _only_one():  # type: ignore[no-untyped-def]  # an iterator; old interpreters read this file
    """Two commands started at once must not build the same venv."""
    if WINDOWS:
        yield
        return
    import fcntl

    with (ROOT / ".venv.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("environment", "another dev.py is building .venv, waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make_venv() -> None:
    say("environment", "making .venv with Python {}.{}.{}".format(*sys.version_info[:3]))
    command = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)]
    _quietly(command, "making .venv")


def _install_locked() -> None:
    """The locked wheels, hashes checked, nothing built: uv when it works, otherwise pip."""
    pins = sum("==" in line for line in LOCK.read_text(encoding="utf-8").splitlines())
    # The lock is complete; without --no-deps pip 23 looks for unpinned extras of pinned packages.
    wheels = ["--require-hashes", "--no-deps", "-r", str(LOCK)]
    uv = _uv()
    if uv:
        say("environment", f"installing up to {pins} locked packages with uv")
        try:
            # As pip does: a program whose bytecode is missing takes twice as long to start.
            _quietly([*uv, "--compile-bytecode", "--no-build", *wheels], "uv")
        except Failed as failure:
            # A company mirror is often known to pip only.
            reason = next((x for x in str(failure).splitlines() if "error" in x), "no reason given")
            say("environment", f"uv could not ({reason.strip()}), trying pip")
        else:
            return
    say("environment", f"installing up to {pins} locked packages with pip")
    _counted([*_pip(), "--only-binary", ":all:", *wheels], pins)


def _install_project() -> None:
    say("environment", "installing the project itself (editable)")
    options = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    try:
        _quietly([*(_uv() or _pip()), *options], "installing the project")
    except Failed:
        if not _uv():
            raise
        _quietly([*_pip(), *options], "installing the project")


def _uv() -> list[str]:
    """`uv pip install` aimed at our venv, or nothing when there is no uv that runs."""
    found = shutil.which("uv")
    if not found or subprocess.run([found, "--version"], capture_output=True).returncode:
        return []
    return [found, "pip", "install", "--quiet", "--python", str(PYTHON)]


def _pip() -> list[str]:
    """`pip install` into our venv: its own pip, or this interpreter's aimed at it."""
    options = ["install", "--no-input", "--disable-pip-version-check"]
    own = [str(PYTHON), "-m", "pip"]
    if _runs([*own, "--version"]) or _runs([str(PYTHON), "-m", "ensurepip", "--default-pip"]):
        return [*own, *options]
    outer = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    if _runs([*outer, "--version"]):
        return [*outer, *options]
    raise Failed(
        "this Python has neither uv nor pip nor ensurepip; install one and run again "
        "(Debian, Ubuntu: apt-get install python3-venv)"
    )


# --- running things ---------------------------------------------------------------------------


def say(stage: str, text: str) -> None:
    print(f"[{stage}] {text}", flush=True)


def _environment() -> dict[str, str]:
    variables = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PIP_USER"}}
    variables["VIRTUAL_ENV"] = str(VENV)
    variables["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    variables["PYTHONUTF8"] = "1"
    return variables


def _runs(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, env=_environment(), check=False)
    return done.returncode == 0


def _quietly(command: list[str], what: str) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=_environment(),
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{what} failed:\n{done.stdout.decode(errors='replace').strip()}")


def _counted(command: list[str], total: int) -> None:
    """Run pip and show how many packages it has collected."""
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=_environment(),
        cwd=ROOT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 (asked for above)
        collected = 0
        for line in process.stdout:
            lines.append(line)
            collected += line.startswith("Collecting ")
            if sys.stdout.isatty():
                print(f"\r[environment]   {collected}/{total} collected", end="", flush=True)
    if sys.stdout.isatty():
        print()
    if process.returncode:
        raise Failed("pip failed:\n" + "".join(lines[-15:]).strip())


def _run(command: list[str]) -> int:
    """Run in the project folder with the terminal handed through; its exit code."""
    return subprocess.run(command, env=_environment(), cwd=ROOT, check=False).returncode


def _seen_from_root(arguments: list[str]) -> list[str]:
    """Paths typed in another folder, made absolute so that they mean the same in ours.

    Options and the word behind one (`-k store`) stay as they are.
    """
    fixed = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        path, colons, rest = argument.partition("::")
        is_word = argument.startswith("-") or before in ("-k", "-m", "-o", "-p")
        if not is_word and Path(path).exists():
            argument = str(Path(path).resolve()) + colons + rest
        fixed.append(argument)
    return fixed


def _module(name: str, words: list[str], arguments: list[str]) -> int:
    code = _run([str(PYTHON), "-m", name, *words, *_seen_from_root(arguments)])
    return code if code in (0, 1, 2) else 1


# Tests that start and kill hubs mostly wait: more of them than processors run at a time.
PARALLEL = ["-n", "3", "--dist", "worksteal"]

# --- commands ---------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    return _module("demo", [], arguments)


def bench(arguments: list[str]) -> int:
    return _module("bench", arguments[:1], arguments[1:])


def test(arguments: list[str]) -> int:
    chosen = _seen_from_root(arguments) or [*PARALLEL, "-m", "not slow"]
    code = _run([str(PYTHON), "-m", "pytest", *chosen])
    wrong_usage = 4
    return {0: 0, wrong_usage: 2}.get(code, 1)


def fmt(arguments: list[str]) -> int:
    _no_arguments("fmt", arguments)
    ruff = str(BIN / "ruff")
    return 1 if _run([ruff, "check", "--fix", "."]) + _run([ruff, "format", "."]) else 0


def check(arguments: list[str]) -> int:
    """Every stage runs, whatever the ones before it said."""
    if set(arguments) - {"--full"}:
        raise SystemExit(_usage(f"check takes only --full, not {' '.join(arguments)}"))
    results = [
        _stage(name, command, live=live) for name, command, live in _stages(arguments == ["--full"])
    ]
    width = max(len(name) for name, _, _ in results)
    print(f"\n{'stage':<{width}}  seconds  result")
    for name, seconds, passed in results:
        print(f"{name:<{width}}  {seconds:7.1f}  {'pass' if passed else 'FAIL'}")
    failed = [name for name, _, passed in results if not passed]
    print(f"check: {'failed: ' + ', '.join(failed) if failed else 'all stages passed'}", flush=True)
    return 1 if failed else 0


def _stages(full: bool) -> list[tuple[str, list[str], bool]]:
    """Name, command and whether its output is shown while it runs."""
    ruff, hub = str(BIN / "ruff"), str(BIN / "hub")
    pytest = [str(PYTHON), "-m", "pytest"]
    return [
        ("format", [ruff, "format", "--check", "."], False),
        ("lint", [ruff, "check", "."], False),
        ("types", [str(BIN / "mypy")], False),
        ("imports", [str(BIN / "lint-imports")], False),
        ("manifests", [hub, "connector", "lint", "--json"], False),
        ("flows", [hub, "flow", "lint"], False),
        ("README and rules", [*pytest, "-q", *PARALLEL, "tests/project"], False),
        (
            "tests",
            [*pytest, *PARALLEL, "--ignore=tests/project", "-m", "" if full else "not slow"],
            True,
        ),
    ]


def _stage(name: str, command: list[str], *, live: bool) -> tuple[str, float, bool]:
    say("check", name)
    started = time.monotonic()
    try:
        if live:
            passed = _run(command) == 0
        else:
            _quietly(command, name)
            passed = True
    except (Failed, OSError) as failure:
        passed = False
        print(failure, flush=True)
    return name, time.monotonic() - started, passed


def lock(arguments: list[str]) -> int:
    """Both lock files from pyproject.toml; no index, host or path gets into them."""
    _no_arguments("lock", arguments)
    uv = shutil.which("uv")
    if not uv:
        raise Failed("lock needs uv (pip install uv)")
    options = "--universal --python-version 3.11 --generate-hashes --upgrade --quiet "
    options += "--no-emit-index-url --no-emit-find-links --no-header --no-annotate"
    base = [uv, "pip", "compile", "pyproject.toml", *options.split()]
    dev = ["--extra", "dev", "-c", "requirements.lock", "-o", LOCK.name]
    whole = ["--extra", "archive", "--extra", "nats", "-o", "requirements.lock"]
    return 1 if _run([*base, *whole]) or _run([*base, *dev]) else 0


COMMANDS = {"demo": demo, "test": test, "check": check, "bench": bench, "fmt": fmt, "lock": lock}


def _no_arguments(name: str, arguments: list[str]) -> None:
    if arguments:
        raise SystemExit(_usage(f"{name} takes no arguments, not {' '.join(arguments)}"))


def _usage(problem: str) -> int:
    print(f"dev.py: {problem} (python3 dev.py --help)", file=sys.stderr)
    return 2


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:3]))
        return _usage(f"needs Python 3.11 or newer, this is {have}; run it with python3.11")
    if not arguments:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    name, rest = arguments[0], arguments[1:]
    if name in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"
        return _usage(f"unknown command {name}; {hint}")
    try:
        if name != "lock":
            ensure_environment()
        return COMMANDS[name](rest)
    except Failed as failure:
        print(f"dev.py: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("dev.py: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
