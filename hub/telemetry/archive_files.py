"""Parquet files of a UTC day: written series by series, read back, and summed up to compare."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.sdk.errors import ConfigError, ContractBroken

Key = tuple[str, str, str, str]
"""Tenant, gateway, device, metric."""

NAMES = ("tenant", "gateway", "device", "metric")

_GROUP_ROWS = 250_000
_CHECKSUM = b"hub.checksum"
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Rows(NamedTuple):
    """Readings of one series by time: numbers, and texts."""

    key: Key
    ts: NDArray[np.int64]
    value: NDArray[np.float64]
    texts: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.ts) + len(self.texts)


class Sums:
    """Sums over everything a file holds, whatever the order: two that are equal hold the same."""

    def __init__(self) -> None:
        self.readings = 0
        self._names = 0
        self._numbers = 0
        self._texts = 0

    def add(self, rows: Rows) -> None:
        name = zlib.crc32("\0".join(rows.key).encode())
        self.readings += len(rows)
        self._names += name * len(rows)
        with np.errstate(over="ignore"):
            bits = rows.value.view(np.uint64) * _ODD + np.uint64(name)
            mixed = (rows.ts.astype(np.uint64) * _ODD) ^ bits
            self._numbers += int(mixed.sum(dtype=np.uint64))
        for ts, text in rows.texts:
            self._texts += zlib.crc32(f"{name}:{ts}:{text}".encode()) << 8

    def checksum(self) -> str:
        return "-".join(
            [
                str(self.readings),
                f"{self._names & _MASK:x}",
                f"{self._numbers & _MASK:x}",
                f"{self._texts & _MASK:x}",
            ]
        )


_MASK = (1 << 64) - 1


class Writer:
    """Writes one file; `close` puts the sums into it."""

    def __init__(self, path: Path) -> None:
        arrow, parquet = _libraries()
        self._arrow = arrow
        self.sums = Sums()
        self._waiting: list[Any] = []
        self._rows = 0
        word = arrow.dictionary(arrow.int32(), arrow.string())
        self._schema = arrow.schema(
            [
                *[(name, word) for name in NAMES],
                ("ts", arrow.timestamp("ms", tz="UTC")),
                ("value", arrow.float64()),
                ("text", arrow.string()),
            ]
        )
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, rows: Rows) -> None:
        """Series must come in ascending order of their keys."""
        self.sums.add(rows)
        self._waiting.append(self._table(rows))
        self._rows += len(rows)
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.add_key_value_metadata({_CHECKSUM.decode(): self.sums.checksum()})
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is; it is of no use."""
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            table = self._arrow.concat_tables(self._waiting).unify_dictionaries()
            self._file.write_table(table, row_group_size=_GROUP_ROWS)
        self._waiting, self._rows = [], 0

    def _table(self, rows: Rows) -> Any:
        arrow, count = self._arrow, len(rows)
        ts = np.concatenate([rows.ts, np.array([ts for ts, _text in rows.texts], dtype=np.int64)])
        order = np.argsort(ts, kind="stable")
        value = arrow.array(
            np.concatenate([rows.value, np.zeros(len(rows.texts))]),
            mask=np.arange(count) >= len(rows.ts),
        )
        text = arrow.array([*[None] * len(rows.ts), *[text for _ts, text in rows.texts]])
        index = arrow.array(np.zeros(count, dtype=np.int32))
        words = [arrow.DictionaryArray.from_arrays(index, [name]) for name in rows.key]
        columns = [
            *words,
            arrow.array(ts).cast(self._schema.field("ts").type),
            value,
            text.cast(arrow.string()),
        ]
        return arrow.Table.from_arrays(columns, schema=self._schema).take(arrow.array(order))


def read_rows(path: Path) -> Iterator[Rows]:
    """What a file holds, series by series. Raises ContractBroken for one that is damaged."""
    arrow, parquet = _libraries()
    try:
        with parquet.ParquetFile(path, read_dictionary=list(NAMES)) as file:
            waiting: Rows | None = None
            for group in range(file.num_row_groups):
                for rows in _groups(file.read_row_group(group)):
                    if waiting is not None and waiting.key == rows.key:
                        waiting = _joined(waiting, rows)
                        continue
                    if waiting is not None:
                        yield waiting
                    waiting = rows
            if waiting is not None:
                yield waiting
    except (arrow.ArrowException, OSError, KeyError) as error:
        raise ContractBroken("telemetry.archive_damaged", file=path.name) from error


def written_checksum(path: Path) -> str:
    """The checksum a file says it has; "" for none. Raises ContractBroken for a damaged one."""
    arrow, parquet = _libraries()
    try:
        with parquet.ParquetFile(path) as file:
            known = file.metadata.metadata or {}
    except (arrow.ArrowException, OSError) as error:
        raise ContractBroken("telemetry.archive_damaged", file=path.name) from error
    return bytes(known.get(_CHECKSUM, b"")).decode("ascii", "replace")


def sums_of(path: Path) -> Sums:
    """The sums of what is really in a file."""
    sums = Sums()
    for rows in read_rows(path):
        sums.add(rows)
    return sums


def require_libraries() -> None:
    """Raises ConfigError naming the extra when Parquet cannot be written here."""
    _libraries()


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("telemetry.archive_library", library="pyarrow") from error
    return pyarrow, parquet


def _groups(table: Any) -> Iterator[Rows]:
    table = table.combine_chunks()
    codes, words = [], []
    for name in NAMES:
        column = table.column(name).combine_chunks()
        column = column.chunk(0) if hasattr(column, "chunk") else column
        codes.append(column.indices.to_numpy(zero_copy_only=False))
        words.append(column.dictionary.to_pylist())
    ts = table.column("ts").cast("int64").to_numpy()
    is_number = table.column("value").is_valid().to_numpy()
    value = table.column("value").fill_null(0.0).to_numpy()
    text = table.column("text")
    code = np.stack(codes)
    begins = np.flatnonzero(np.any(np.diff(code, axis=1, prepend=-1) != 0, axis=0))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(ts)], strict=True):
        tenant, gateway, device, metric = (
            word[row[begin]] for word, row in zip(words, code, strict=True)
        )
        key = tenant, gateway, device, metric
        numbers = is_number[begin:end]
        texts: list[tuple[int, str]] = []
        if not numbers.all():
            told = text.slice(begin, end - begin).to_pylist()
            times = ts[begin:end].tolist()
            texts = [(at, one) for at, one in zip(times, told, strict=True) if one is not None]
        yield Rows(key, ts[begin:end][numbers], value[begin:end][numbers], texts)


def _joined(first: Rows, second: Rows) -> Rows:
    return Rows(
        first.key,
        np.concatenate([first.ts, second.ts]),
        np.concatenate([first.value, second.value]),
        [*first.texts, *second.texts],
    )
