"""Rules of the project that no linter knows."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from hub.sdk import errors
from tests.project.files import ROOT, text_of, tracked

LONGEST_FILE = 450
LANGUAGES = {"en", "zh"}


# --- error codes and their texts --------------------------------------------------------------


@dataclass(frozen=True)
class Raised:
    """One call that names an error code."""

    code: str
    where: str
    params: frozenset[str]
    open_ended: bool  # `**params`: what fills the text is decided elsewhere


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] in {"hub", "connectors"}:
            yield path, ast.parse(text_of(path), filename=str(path))


def names_errors(called: str) -> bool:
    known = getattr(errors, called, None)
    is_error = isinstance(known, type) and issubclass(known, errors.HubError)
    return is_error or called.endswith("Problem") or called == "reject"


def called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def literal_code(call: ast.Call) -> str | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    candidates = [*call.args, *named]
    texts = [c.value for c in candidates if isinstance(c, ast.Constant)]
    dotted = [t for t in texts if isinstance(t, str) and re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", t)]
    return dotted[0] if dotted else None


@cache
def raised() -> tuple[Raised, ...]:
    found = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and names_errors(called_name(node)):
                code = literal_code(node)
                if code is not None:
                    given = {k.arg for k in node.keywords if k.arg}
                    if called_name(node) == "RecordRejected":
                        given |= {"field", "value"}  # added where it is filed
                    open_ended = any(k.arg is None for k in node.keywords)
                    if not isinstance(getattr(errors, called_name(node), None), type):
                        open_ended = True  # a helper that adds params of its own
                    found.append(
                        Raised(code, f"{path}:{node.lineno}", frozenset(given), open_ended)
                    )
    return tuple(found)


@cache
def texts() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in sorted((ROOT / "hub/sdk/locale").glob("*.yaml")):
        for code, versions in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            assert code not in found, f"{code} stands in two files, one is {path.name}"
            found[code] = versions
    return found


def placeholders(template: str) -> set[str]:
    parts = string.Formatter().parse(template)
    return {name.split(".")[0].split("[")[0] for _, name, _, _ in parts if name is not None}


def test_the_scan_finds_the_codes_of_the_yaml_loader() -> None:
    assert {"yaml.missing", "yaml.unknown_key"} <= {one.code for one in raised()}


def test_every_error_code_has_a_text_in_every_language() -> None:
    missing = {f"{one.where} {one.code}" for one in raised() if one.code not in texts()}
    assert sorted(missing) == []


def test_every_error_class_has_a_text_for_its_own_code() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    own = {c.code for c in classes if issubclass(c, errors.HubError)} - {"hub.error"}
    assert own - set(texts()) == set()


def test_every_text_is_there_in_both_languages_with_the_same_placeholders() -> None:
    for code, versions in texts().items():
        assert set(versions) == LANGUAGES, code
        assert placeholders(versions["en"]) == placeholders(versions["zh"]), code
        for language, template in versions.items():
            assert template.strip(), f"{code}.{language}"
            assert "\n" not in template.strip(), f"{code}.{language} is one line"


def test_every_placeholder_is_filled_where_the_error_is_raised() -> None:
    gaps = []
    for one in raised():
        wanted = placeholders(texts().get(one.code, {}).get("en", ""))
        if not one.open_ended and wanted - one.params:
            gaps.append(f"{one.where} {one.code} lacks {sorted(wanted - one.params)}")
    assert gaps == []


def test_no_text_is_left_over_from_an_error_nobody_raises() -> None:
    code_text = "\n".join(
        text_of(path)
        for path in tracked()
        if path.suffix == ".py" and path.parts[0] in {"hub", "connectors"}
    )
    unused = [code for code in texts() if not is_named(code, code_text)]
    assert unused == []


def is_named(code: str, code_text: str) -> bool:
    """Whether the code stands there whole, or as an f-string with its last part beside it.

    The last part may begin with a word of its own: `f"verify.why_{reason}"`.
    """
    area, _, last = code.rpartition(".")
    prefix, _, rest = last.partition("_")
    whole = f'f"{area}.{{' in code_text and f'"{last}"' in code_text
    parted = f'f"{area}.{prefix}_{{' in code_text and f'"{rest}"' in code_text
    return whole or parted or f'"{code}"' in code_text


# --- files ------------------------------------------------------------------------------------


def test_no_python_file_is_too_long() -> None:
    too_long = {
        str(path): lines
        for path in tracked()
        if path.suffix == ".py" and (lines := text_of(path).count("\n")) > LONGEST_FILE
    }
    assert too_long == {}


def spelled(*parts: str) -> str:
    """A forbidden word in pieces, so that this file does not hold it."""
    return "".join(parts)


FORBIDDEN = {
    "a path of one machine": r"(?<![\w.}\])/-])/(?:"
    + "|".join([spelled("wo", "rk"), spelled("ro", "ot"), spelled("tmp/", "lab")])
    + r")(?=[/\s\"')`]|$)",
    "a registry's host": "|".join(
        [spelled("py", r"pi\.org"), spelled("python", r"hosted\.org"), spelled("npm", r"js\.org")]
    ),
    "unfinished work": r"\b(?:" + "|".join([spelled("TO", "DO"), spelled("FIX", "ME")]) + r")\b",
    "a tool that wrote it": r"(?i)\b(?:"
    + "|".join([spelled("clau", "de"), spelled("anthro", "pic"), spelled("chat", "gpt")])
    + r")\b",
}


@pytest.mark.parametrize("what", list(FORBIDDEN))
def test_no_tracked_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in tracked():
        try:
            lines = text_of(path).splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path}:{n}: {line[:100]}" for n, line in enumerate(lines, 1) if pattern.search(line)
        ]
    assert found == []


def test_the_changelog_has_an_unreleased_part() -> None:
    headings = re.findall(r"^## (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
