"""Tables the mapping tests use."""

from __future__ import annotations

from pathlib import Path

TABLES = {
    "lookups/size.yaml": (
        "lookup: size\nnormalize: [halfwidth, trim]\nentries: {1-50人: 1, 51-200人: 2}\n"
    ),
    "lookups/urgent.yaml": "keywords: {stop: [停机, Line Down], safety: [漏电]}\n",
    "order_line.yaml": (
        "mapping: order_line\nwhen: qty != 0\nfields:\n  item: invcode | trim | required\n"
        "  qty: {from: qty, type: 'decimal(18,2)'}\n  order: parent.code\n"
    ),
}


def write_tables(folder: Path, tables: dict[str, str] = TABLES) -> Path:
    """The tables as files under `folder`."""
    for name, content in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder
