"""`dev.py`: clear usage, and children that run in the right place with the right answer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dev
from tests.project.files import ROOT, text_of


def run_dev(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def test_an_unknown_command_is_wrong_usage_with_a_hint(tmp_path: Path) -> None:
    done = run_dev("chekc", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean check?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_command_is_wrong_usage_and_help_is_not() -> None:
    assert run_dev().returncode == 2
    asked = run_dev("--help")
    assert asked.returncode == 0
    assert "python3 dev.py demo" in asked.stdout


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 8, 18)])
def test_an_old_python_gets_one_clear_line(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert dev.main(["test"]) == 2
    error = capsys.readouterr().err
    assert "needs Python 3.11 or newer, this is 3." in error
    assert error.count("\n") == 1


def test_an_old_python_can_read_the_file_as_far_as_that_line() -> None:
    ast.parse(text_of("dev.py"), feature_version=(3, 7))


def test_a_path_typed_elsewhere_means_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_one.py").touch()
    monkeypatch.chdir(tmp_path)
    seen = dev._seen_from_root(["test_one.py::test_a", "no_file", "-k", "test_one.py"])
    assert seen == [f"{tmp_path / 'test_one.py'}::test_a", "no_file", "-k", "test_one.py"]


def test_the_environment_is_made_anew_only_when_lock_or_project_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).write_text(text_of(name), encoding="utf-8")
    done = fake_environment(tmp_path, monkeypatch)
    expected = ["venv", "locked", "project"]
    for change, steps in [
        (None, expected),
        (None, []),
        ("[tool.ruff]", []),
        ("[project.scripts]", ["project"]),
        ("lock", expected),
    ]:
        done.clear()
        make_change(tmp_path, change)
        dev.ensure_environment()
        assert done == steps, change


def fake_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """dev.py working in `folder`, only noting what it would install."""
    done: list[str] = []
    python = folder / ".venv" / "bin" / "python"

    def make_venv() -> None:
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        done.append("venv")

    for name, value in {
        "ROOT": folder,
        "LOCK": folder / "requirements-dev.lock",
        "STAMP": folder / ".venv" / "hub-stamp.json",
        "PYTHON": python,
        "_make_venv": make_venv,
        "_install_locked": lambda: done.append("locked"),
        "_install_project": lambda: done.append("project"),
    }.items():
        monkeypatch.setattr(dev, name, value)
    return done


def make_change(folder: Path, change: str | None) -> None:
    if change == "lock":
        lock = folder / "requirements-dev.lock"
        lock.write_text(lock.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    elif change:
        project = folder / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        added = 'other = "hub.cli.main:main"' if "scripts" in change else "preview = false"
        project.write_text(text.replace(change, f"{change}\n{added}"), encoding="utf-8")


def test_a_failed_stage_fails_the_check_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine, broken = [sys.executable, "-c", ""], [sys.executable, "-c", "raise SystemExit('no')"]
    stages = [("one", broken, False), ("two", fine, True), ("three", ["no-such-program"], False)]
    monkeypatch.setattr(dev, "_stages", lambda full: stages)
    assert dev.check([]) == 1
    output = capsys.readouterr().out
    assert "check: failed: one, three" in output
    assert "two  " in output
