"""A library of tables in a temporary folder, and a short way to make mappings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.mapping import Library, Mapped, Mapping, load_mapping
from tests.mapping.tables import write_tables


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("mappings"))


@pytest.fixture(scope="session")
def make(folder: Path) -> Callable[..., Mapping]:
    """make(fields, **rest) is a mapping keyed by the constant field `k`."""

    def build(fields: dict[str, Any], **rest: Any) -> Mapping:
        spec = {"key": ["k"], "fields": {"k": {"value": "K"}, **fields}, **rest}
        return load_mapping(spec, where="flow.yaml: mapping", library=Library([folder]))

    return build


@pytest.fixture(scope="session")
def value(make: Callable[..., Mapping]) -> Callable[..., Any]:
    """value(spec, row) is what one field becomes; problems come back as (code, field) pairs."""

    def one(spec: Any, row: dict[str, Any], **rest: Any) -> Any:
        mapped: Mapped = make({"x": spec}).apply(row, **rest)
        if mapped.outcome != "ok" or mapped.data is None:
            return [
                (problem.code.removeprefix("mapping."), problem.field)
                for problem in mapped.problems
            ]
        return mapped.data["x"]

    return one
