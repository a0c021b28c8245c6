"""Every error code the sdk raises has its message in both languages, and the params it needs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from hub.sdk import messages
from hub.sdk.messages import render, templates

SDK = Path(__file__).parents[2] / "hub" / "sdk"
AREAS = ("hook", "http", "auth", "egress", "read", "sink", "connector", "connection", "check")
CODE = re.compile(rf"^({'|'.join(AREAS)})\.[a-z0-9_]+$")
# Codes put together at run time.
BUILT = {"http.too_large", "http.encoded"}


def raised() -> set[str]:
    found = set(BUILT)
    for path in SDK.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if CODE.match(node.value) else set()
    return found - {"connector.yaml"}


def own() -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {}
    for area in ("hook", "http", "read", "sink", "connector"):
        loaded = yaml.safe_load((SDK / "locale" / f"{area}.yaml").read_text(encoding="utf-8"))
        texts |= loaded
    return texts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_code_has_a_message(language: str) -> None:
    assert raised() - set(templates(language)) == set()


def test_no_message_is_left_over() -> None:
    assert set(own()) - raised() == set()


@pytest.mark.parametrize("code", sorted(own()))
def test_both_languages_name_the_same_things_on_one_line(code: str) -> None:
    names = [set(re.findall(r"(?<!\{)\{(\w+)", text)) for text in own()[code].values()]
    assert names[0] == names[1]
    for language in ("en", "zh"):
        text = render(code, dict.fromkeys(names[0], "x"), language)
        assert "\n" not in text
        assert "?" not in text.replace("did you mean", "")


def test_a_file_of_comments_only_has_no_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locale").mkdir()
    (tmp_path / "locale/a.yaml").write_text("# nothing yet\n", encoding="utf-8")
    (tmp_path / "locale/b.yaml").write_text("x.y: {en: yes it is, zh: 是的}\n", encoding="utf-8")
    monkeypatch.setattr(messages, "__file__", str(tmp_path / "messages.py"))
    assert messages.templates.__wrapped__("en") == {"x.y": "yes it is"}
