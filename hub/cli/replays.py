"""Asking for replays and following them to their end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.cli.face import Face
from hub.cli.letter_filters import Filters
from hub.engine.operations import LocalOperations

if TYPE_CHECKING:
    from hub.engine.operations import Operations

Row = dict[str, Any]

_POLL = 0.1
_POLL_REMOTE = 0.5
_LINE_SECONDS = 5.0


def read_edit(face: Face, path: Path | None) -> Any:
    """The JSON in a file (or on standard input), numbers as written. Raises Failed."""
    if path is None:
        return None
    import msgspec

    from hub.store.rows import decode_exact

    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return decode_exact(content.removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise face.fail("dead_letter.edit_file", file=path, reason=error.strerror) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise face.fail("dead_letter.edit_file", file=path, reason=error) from error


def read_changes(face: Face, given: list[str]) -> dict[str, str]:
    """`FIELD=VALUE` pairs. Raises Failed."""
    changes: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise face.misuse("dead_letter.set_form", value=one)
        changes[name] = value
    return changes


def replay_one(face: Face, letter: str, wanted: Row, seconds: float, *, as_json: bool) -> None:
    """Take one letter up again and tell what became of it. Raises Failed when it is open again."""
    with face.operations() as operations:
        _work_here(operations, seconds)
        replay = operations.replay_letter(letter, wanted, actor=face.actor)
        replay = _follow(face, operations, replay, seconds)
        found = operations.dead_letter(replay["letter"])
    if as_json:
        face.print_json({**replay, "letter": found})
    else:
        print_replays(face, [replay])
    _judge(face, replay, found, seconds)


def replay_all(
    face: Face, filters: Filters, per_second: float | None, seconds: float,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Take up all letters that match and follow it. Raises Failed when it did not end well."""
    with face.operations() as operations:
        _work_here(operations, seconds)
        replay = operations.replay_letters(filters, per_second, dry_run=False, actor=face.actor)
        replay = _follow(face, operations, replay, seconds)
    if as_json:
        face.print_json(replay)
    else:
        print_replays(face, [replay])
    _judge(face, replay, None, seconds)


def print_replays(face: Face, rows: list[Row]) -> None:
    """Replays with how far they are."""
    names = ("total", "replayed", "passed_over")
    face.print_table(
        ("replay", "flow", "state", "requested_by", "created_at", *names, "letters", "error"),
        [
            (
                row["id"][:12],
                row["flow"],
                face.text(f"replay.{row['state']}"),
                row["requested_by"],
                row["created_at"],
                *(row[name] for name in names),
                ", ".join(f"{face.text(f'letter.{s}')} {n}" for s, n in _states(row).items()),
                row["error"],
            )
            for row in rows
        ],
    )


def _work_here(operations: Operations, seconds: float) -> None:
    if isinstance(operations, LocalOperations) and seconds > 0:
        operations.start_jobs()


def _follow(face: Face, operations: Operations, replay: Row, seconds: float) -> Row:
    """The replay when it is over and its writes are settled, or after `seconds`."""
    pause = _POLL if isinstance(operations, LocalOperations) else _POLL_REMOTE
    until = time.monotonic() + seconds
    with _progress(face, replay) as show:
        while not _settled(replay) and time.monotonic() < until:
            time.sleep(pause)
            replay = operations.replay(replay["id"])
            show(replay)
    return replay


def _states(replay: Row) -> dict[str, int]:
    states: dict[str, int] = replay.get("letters") or {}
    return states


def _settled(replay: Row) -> bool:
    return replay["state"] != "running" and not _states(replay).get("replaying")


def _judge(face: Face, replay: Row, letter: Row | None, seconds: float) -> None:
    number = replay["id"][:12]
    if replay["state"] == "failed":
        raise face.fail("replay.ended", replay=number, message=replay["error"])
    if letter is not None and letter["state"] == "open":
        reason = letter["reason"][face.language]
        raise face.fail("replay.open_again", letter=letter["id"][:12], message=reason)
    if not _settled(replay) and seconds > 0:
        raise face.fail("replay.going_on", replay=number, seconds=f"{seconds:g}")
    if not _settled(replay):
        face.say(face.text("replay.asked", replay=number))
    elif again := _states(replay).get("open"):
        face.say(face.text("replay.some_open", replay=number, number=again))


@contextmanager
def _progress(face: Face, replay: Row) -> Iterator[Callable[[Row], None]]:
    """A bar on a terminal, a line every few seconds anywhere else."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(_line(face, replay), total=replay["total"])
            yield lambda now: bar.update(
                task,
                description=_line(face, now),
                completed=now["replayed"] + now["passed_over"],
            )
        return
    last = time.monotonic()

    def line(now: Row) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            face.say(_line(face, now))

    yield line


def _line(face: Face, replay: Row) -> str:
    return face.text(
        "replay.progress",
        flow=replay["flow"],
        done=replay["replayed"] + replay["passed_over"],
        total=replay["total"],
        writing=_states(replay).get("replaying", 0),
    )
