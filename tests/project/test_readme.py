"""What the README and the documents promise is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dev
from hub.sdk.loading import parse_yaml
from tests.project.files import ROOT, text_of, tracked

DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str | Path, language: str) -> list[str]:
    return [body for tag, body in FENCE.findall(text_of(document)) if tag == language]


def test_the_readme_names_the_test_command_that_ci_runs() -> None:
    _, heading, below = text_of("README.md").partition("\n## Tests\n")
    assert heading, "README.md needs a heading `## Tests`"
    first_block = FENCE.search(below)
    assert first_block, "below it stands the test command in a fenced block"
    assert first_block[2].splitlines()[0] == "python3 dev.py check"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    prose = FENCE.sub("", text_of(document))
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose)
    inside = [target for target in targets if "://" not in target and "mailto:" not in target]
    assert [target for target in inside if not (ROOT / document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_of_dev_py_exist(document: Path) -> None:
    named = re.findall(r"python3 dev\.py (\w+)", text_of(document))
    assert set(named) <= set(dev.COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_yaml_examples_can_be_read(document: Path) -> None:
    for body in blocks(document, "yaml"):
        assert parse_yaml(body, document)


def connectors() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "connectors").glob("*/connector.yaml"))


@pytest.mark.parametrize("name", connectors())
def test_a_connector_has_a_readme_that_shows_its_sample_as_it_is(name: str) -> None:
    folder = ROOT / "connectors" / name
    assert (folder / "README.md").is_file(), f"connectors/{name}/README.md is missing"
    sample = folder / "sample.yaml"
    if sample.is_file():
        shown = blocks(folder / "README.md", "yaml")
        assert sample.read_text(encoding="utf-8") in shown, "copy sample.yaml into a yaml block"


def test_help_of_dev_py_names_every_command() -> None:
    assert dev.__doc__
    assert set(re.findall(r"python3 dev\.py (\w+)", dev.__doc__)) == set(dev.COMMANDS)
