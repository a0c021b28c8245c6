"""Lookup and keyword tables, read from `lookups/<name>.yaml` of the first folder that has it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.mapping import text
from hub.mapping.results import reject
from hub.sdk.errors import ConfigError, RecordRejected
from hub.sdk.loading import load_yaml, suggestion, unknown_key

_NAME = re.compile(r"[\w\-]{1,100}")
_DASHES = str.maketrans(dict.fromkeys("–—－−~～至", "-"))
_NORMAL: dict[str, Callable[[str], str]] = {
    "trim": str.strip,
    "halfwidth": text.halfwidth,
    "lower": str.lower,
    "dash": lambda value: value.translate(_DASHES),
    "squeeze": lambda value: "".join(value.split()),
}


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Source words and what they become; `normalize` steps run on both sides."""

    name: str
    entries: dict[Any, Any]
    normalize: tuple[str, ...] = ()

    def normal(self, value: str) -> str:
        """`value` as the entries are spelled."""
        for name in self.normalize:
            value = _NORMAL[name](value)
        return value

    def find(self, value: Any) -> Any:
        """What `value` becomes; null and blank stay null. Raises RecordRejected when unknown."""
        if not text.filled(value):
            return None
        word = text.shown(value)
        try:
            return self.entries[self.normal(word)]
        except KeyError:
            raise reject(
                "mapping.not_in_lookup",
                value,
                lookup=self.name,
                hint=suggestion(word[:100], self.entries),
            ) from None


@dataclass(frozen=True, slots=True)
class KeywordTable:
    """Tags and the words that earn them."""

    name: str
    words: dict[str, tuple[str, ...]]

    def find(self, value: Any) -> list[str]:
        """Sorted tags whose words stand in the text; case and width do not matter."""
        if value is None:
            return []
        message = _folded(text.shown(value))
        return sorted(tag for tag, words in self.words.items() if any(w in message for w in words))


class Lookups:
    """Tables by name, read when first used and kept."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._tables: dict[str, LookupTable] = {}
        self._keywords: dict[str, KeywordTable] = {}
        self._digests: dict[str, str] = {}

    def get(self, name: str, where: str = "lookup") -> LookupTable:
        """The lookup table `name`. Raises ConfigError when there is none."""
        if name not in self._tables:
            self._tables[name] = read_lookup(*self._load(name, where, "entries"))
        return self._tables[name]

    def keywords(self, name: str, where: str = "keywords") -> KeywordTable:
        """The keyword table `name`. Raises ConfigError when there is none."""
        if name not in self._keywords:
            self._keywords[name] = _read_keywords(*self._load(name, where, "keywords"))
        return self._keywords[name]

    def digest(self, name: str) -> str:
        """A fingerprint of the file behind a table that was read."""
        return self._digests[name]

    def _load(self, name: str, where: str, wanted: str) -> tuple[str, dict[str, Any], Path]:
        path = find_file(self._folders, "lookups", name, where)
        data = load_yaml(path)
        if wanted not in data:
            raise ConfigError("mapping.lookup_without", file=path, wanted=wanted, where=where)
        self._digests[name] = hashlib.sha256(repr(_ordered(data)).encode()).hexdigest()
        return name, data, path


def find_file(folders: Sequence[Path], kind: str, name: str, where: str) -> Path:
    """`<name>.yaml` of the first folder that has it. Raises ConfigError with a near name."""
    inside = [folder / kind if kind else folder for folder in folders]
    if isinstance(name, str) and _NAME.fullmatch(name):
        for folder in inside:
            if (path := folder / f"{name}.yaml").is_file():
                return path
    known = [path.stem for folder in inside if folder.is_dir() for path in folder.glob("*.yaml")]
    code = "mapping.unknown_lookup" if kind else "mapping.unknown_mapping"
    raise ConfigError(code, where=where, name=name, hint=suggestion(str(name), known))


def read_lookup(name: str, data: dict[str, Any], where: Path | str) -> LookupTable:
    """A lookup table from its file content. Raises ConfigError."""
    known = ("lookup", "title", "normalize", "entries")
    for key in data:
        if key not in known:
            raise unknown_key(where, str(key), str(key), known)
    steps = data.get("normalize") or []
    for step in steps:
        if step not in _NORMAL:
            hint = suggestion(str(step), _NORMAL)
            raise ConfigError(
                "mapping.unknown_pipe", where=f"{where}: normalize", name=step, hint=hint
            )
    entries = data["entries"]
    if not isinstance(entries, dict) or not entries:
        raise ConfigError("mapping.lookup_without", file=where, wanted="entries", where=name)
    table = LookupTable(name, {}, tuple(steps))
    for word, value in entries.items():
        normal = table.normal(text.shown(word if not isinstance(word, float) else repr(word)))
        value = _scalar(value, f"{where}: {word}")
        if table.entries.setdefault(normal, value) != value:
            raise ConfigError("mapping.lookup_twice", where=where, word=word)
    return table


def _scalar(value: Any, where: str) -> Any:
    try:
        if not isinstance(value, dict | list):
            return text.copied(value)
        found = type(value).__name__
    except RecordRejected as error:
        found = error.code
    raise ConfigError("mapping.not_a_constant", where=where, found=found)


def _read_keywords(name: str, data: dict[str, Any], where: Path) -> KeywordTable:
    known = ("lookup", "title", "keywords")
    for key in data:
        if key not in known:
            raise unknown_key(where, str(key), str(key), known)
    words = data["keywords"]
    if not isinstance(words, dict) or not all(isinstance(found, list) for found in words.values()):
        raise ConfigError("mapping.lookup_without", file=where, wanted="keywords", where=name)
    return KeywordTable(
        name,
        {
            _scalar(str(tag), f"{where}: {tag}"): tuple(
                filter(None, (_folded(text.shown(word)) for word in found))
            )
            for tag, found in words.items()
        },
    )


def _folded(value: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKC", value[: text.MAX_TEXT]).casefold()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [
            (str(key), _ordered(item))
            for key, item in sorted(value.items(), key=lambda p: str(p[0]))
        ]
    return [_ordered(item) for item in value] if isinstance(value, list) else value
