"""Reading the project's own files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def text_of(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, str]:
    """Name and version of everything in a lock file."""
    found = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;\\]+)", text_of(lock), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def tracked() -> list[Path]:
    """The files git knows, and new ones it would take, relative to the project."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    names = [Path(name) for name in done.stdout.decode().split("\0") if name]
    return [name for name in names if (ROOT / name).is_file()]
