"""Every YAML block of the language reference is loaded and its examples are run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.mapping import Library, load_mapping
from hub.mapping.functions import functions
from hub.mapping.pipes import pipes
from hub.sdk.errors import ConfigError
from hub.sdk.loading import parse_yaml
from tests.mapping.tables import write_tables

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = {name: text for text in BLOCKS for name in re.findall(r"\A# (\S+\.yaml)\n", text)}


def examples() -> Iterator[tuple[str, str]]:
    """Blocks that are mappings, with what refuses them ("" for good ones)."""
    for text in BLOCKS:
        if text not in FILES.values():
            refused = re.match(r"# refused: (.*)\n", text)
            yield text, refused[1] if refused else ""


def complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Short examples leave out the key."""
    if "key" in spec:
        return spec
    return {"key": ["k"], **spec, "fields": {"k": {"value": "K"}, **spec["fields"]}}


@pytest.mark.parametrize(("text", "refused"), list(examples()))
def test_examples_of_the_reference_are_true(text: str, refused: str, tmp_path: Path) -> None:
    library = Library([write_tables(tmp_path, FILES), ROOT / "mappings"])
    spec = complete(parse_yaml(text, "docs/mapping.md"))
    if refused:
        with pytest.raises(ConfigError, match=re.escape(refused)):
            load_mapping(spec, where="docs/mapping.md", library=library)
        return
    mapping = load_mapping(spec, where="docs/mapping.md", library=library)
    assert [failure.message() for failure in mapping.run_tests()] == []


def test_the_reference_names_every_pipe_and_function() -> None:
    missing = [name for name in [*pipes(), *functions(), "matches"] if f"`{name}" not in PAGE]
    assert missing == []


def test_the_shipped_tables_read_what_people_write() -> None:
    library = Library([ROOT / "mappings"])
    size = library.lookups.get("company_size")
    spelled = [
        "1-50人",
        "５１－２００人",
        " 201 - 500人",
        "501—1000人",
        "1001~5000人",
        "5000人以上",
    ]
    assert [size.find(text) for text in spelled] == [1, 2, 3, 4, 5, 6]
    words = library.lookups.keywords("urgent_words")
    assert words.find("设备漏电，ＡＳＡＰ") == ["安全", "紧急"]
