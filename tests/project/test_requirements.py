"""The lock files are complete, hashed and free of hosts."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.files import pins, text_of

LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_hashes_and_nothing_else(lock: str) -> None:
    entries = text_of(lock).replace("\\\n", " ").splitlines()
    assert entries
    shape = re.compile(r"[\w.-]+(\[[\w,-]+\])?==\S+( ; [^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries if not shape.fullmatch(entry.strip())] == []


def test_the_development_lock_contains_the_runtime_lock() -> None:
    runtime, development = (pins(lock) for lock in LOCKS)
    assert runtime.items() <= development.items()


def test_the_locks_satisfy_what_the_project_asks_for() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    extras = project["project"]["optional-dependencies"]
    ours = project["project"]["dependencies"] + extras["archive"] + extras["nats"]
    needed = [(line, "requirements.lock") for line in ours]
    tools = _outside(extras["dev"]) + project["build-system"]["requires"]
    needed += [(line, "requirements-dev.lock") for line in tools]
    for line, lock in needed:
        requirement = Requirement(line)
        version = pins(lock).get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {lock}: python3 dev.py lock"
        assert requirement.specifier.contains(version), f"{line} is {version} in {lock}"


def test_every_dependency_has_a_lower_bound_and_a_cap() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    calendar_versions = {"tzdata"}
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for line in project["dependencies"] + _outside(extras):
        requirement = Requirement(line)
        signs = {specifier.operator for specifier in requirement.specifier}
        capped = "<" in signs or requirement.name in calendar_versions
        assert ">=" in signs, f"{line} has no lower bound"
        assert capped, f"{line} has no cap"


def _outside(lines: list[str]) -> list[str]:
    """Without the line by which the project asks for its own extras."""
    return [line for line in lines if not line.startswith("integration-hub[")]
