"""`hub telemetry query|archive|restore`: readings on the terminal, old ones in the archive."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.days import following_days
from hub.cli.face import Face, face_of
from hub.cli.options import AsJson

if TYPE_CHECKING:
    from hub.engine.operations import Operations

Row = dict[str, Any]

_PAGE = 50_000
_DAY_MS = 86_400_000
_TEXTS = ("gateway", "device", "metric")

From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="A time, or 24h.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Default: now.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `hub telemetry`."""
    app.command("query")(query)
    app.command("archive")(archive)
    app.command("restore")(restore)


def query(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    metric: Annotated[list[str], typer.Argument(metavar="METRIC…")],
    since: From = None,
    to: To = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="WIDTH", help="Buckets: 5m, 1h, 1d, 1w, 1mo.")
    ] = None,
    agg: Annotated[
        str, typer.Option("--agg", help="Of buckets: min, max, mean, count, sum, last, std, p95…")
    ] = "min,mean,max",
    gateway: Annotated[str | None, typer.Option("--gateway")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Readings per metric (table: 100; else: all)."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Readings of a device, or with --every what they come to per bucket."""
    face = face_of(context)
    wanted: Row = {"device": [device], "metric": metric, "gateway": gateway}
    wanted |= {"from": since, "to": to}
    most = limit or (None if as_csv or as_json else 100)
    with face.operations() as operations:
        if every is not None:
            wanted |= {"every": every, "agg": [one for one in agg.split(",") if one]}
            found = operations.telemetry_series(wanted)
        else:
            found = _all_readings(operations, wanted, most)
    if as_json:
        face.print_json(found)
        return
    columns, rows = _rows(found)
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows(rows)
        return
    _print_rows(face, columns, list(rows))
    if any(one.get("next") for one in found["series"]):
        face.say(face.text("telemetry.more", limit=most))


def _all_readings(operations: Operations, wanted: Row, most: int | None) -> Row:
    """Page after page; `most` per series."""
    size = min(most or _PAGE, _PAGE // len(wanted["metric"]) or 1)
    found = operations.telemetry_readings({**wanted, "limit": size})
    for one in found["series"]:
        # The end stays where it was, though it was "now".
        only = {"device": [one["device"]], "metric": [one["metric"]], "gateway": one["gateway"]}
        while one["next"] is not None and (most is None or len(one["ts"]) < most):
            rest = {**only, "from": str(one["next"]), "to": found["to"], "limit": size}
            page = operations.telemetry_readings(rest)["series"][0]
            for name in ("ts", "value", "texts"):
                one[name] += page[name]
            one["next"] = page["next"]
    return found


def _rows(found: Row) -> tuple[list[str], Iterator[Sequence[Any]]]:
    names = [name for one in found["series"][:1] for name in one if _is_column(name, one)]
    columns = ["time", *_TEXTS, *names]

    def rows() -> Iterator[Sequence[Any]]:
        for one in found["series"]:
            who = [one[name] for name in _TEXTS]
            points = zip(one["ts"], *(one[name] for name in names), strict=True)
            lines = [(ts, *who, *values) for ts, *values in points]
            lines += [(ts, *who, text) for ts, text in one.get("texts", ())]
            for ts, *rest in sorted(lines, key=lambda line: int(line[0])):
                yield (_iso(ts), *rest)

    return columns, rows()


def _is_column(name: str, series: Row) -> bool:
    return isinstance(series[name], list) and name not in ("ts", "texts")


def _iso(ts: int) -> str:
    moment = datetime.fromtimestamp(ts / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_rows(face: Face, columns: list[str], rows: list[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in columns:
        known = name in ("time", *_TEXTS, "value")
        heading = face.text(f"column.{name}") if known else name
        table.add_column(heading, justify="left" if name in ("time", *_TEXTS) else "right")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    width = None if sys.stdout.isatty() else 240
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def _cell(value: object) -> str:
    from hub.cli.face import one_line

    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else one_line(str(value))


# --- the archive ------------------------------------------------------------------------------


def archive(
    context: typer.Context,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", min=1, help="Default: hub.toml.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is old.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring old days to the archive now, then drop them; `hub serve` does so daily by itself."""
    from hub.engine.deployment import open_deployment
    from hub.engine.telemetry_archive import archive_of, this_process, zones_of
    from hub.store.telemetry.database import open_telemetry
    from hub.telemetry.retention import keep_house, plan

    face = face_of(context)
    deployment = open_deployment(face.folder)
    keep = keep_days or deployment.settings.telemetry.keep_days
    place = archive_of(deployment)
    store = open_telemetry(deployment.telemetry_url)
    now = int(datetime.now(UTC).timestamp() * 1000)
    try:
        days = plan(store, keep, now)
        if dry_run:
            _show_plan(face, days, as_json=as_json)
            return
        with following_days(face, "telemetry.archiving", dict(days)) as tell:
            done = keep_house(
                store, keep, place, now,
                owner=this_process(), zones=zones_of(deployment), tell=tell,
            )  # fmt: skip
    finally:
        store.close()
    found = {name: getattr(done, name) for name in ("days", "readings", "files", "bytes")}
    _show_done(face, {"place": place.url, **found}, "telemetry.archived", as_json=as_json)


def restore(
    context: typer.Context,
    since: Annotated[str, typer.Option("--from", metavar="DATE", help="The first day (UTC).")],
    to: Annotated[str, typer.Option("--to", metavar="DATE", help="The last day (UTC).")],
    keep: Annotated[
        int, typer.Option("--keep", min=1, max=3650, help="Days until they are dropped again.")
    ] = 7,
    as_json: AsJson = False,
) -> None:
    """Bring days back from the archive; what is there already stays as it is."""
    from hub.engine.deployment import open_deployment
    from hub.engine.telemetry_archive import archive_of, this_process
    from hub.store.telemetry.database import open_telemetry
    from hub.telemetry.archive import files_between
    from hub.telemetry.restoring import restore as bring_back

    face = face_of(context)
    first, last = _day(face, "--from", since), _day(face, "--to", to) + _DAY_MS
    deployment = open_deployment(face.folder)
    place = archive_of(deployment)
    days = dict.fromkeys(files_between(place, first, last), 0)
    if not days:
        raise face.fail("telemetry.not_archived", place=place.url, since=since, to=to)
    store = open_telemetry(deployment.telemetry_url)
    now = int(datetime.now(UTC).timestamp() * 1000)
    try:
        with following_days(face, "telemetry.restoring", days) as tell:
            done = bring_back(
                store, place, first, last,
                keep_until=now + keep * _DAY_MS, now=now, owner=this_process(), tell=tell,
            )  # fmt: skip
    finally:
        store.close()
    found = {name: getattr(done, name) for name in ("days", "files", "readings", "written")}
    _show_done(face, {"place": place.url, **found}, "telemetry.restored", as_json=as_json)


def _show_plan(face: Face, days: list[tuple[int, int]], *, as_json: bool) -> None:
    rows = [(_iso(day)[:10], readings) for day, readings in days]
    if as_json:
        face.print_json([{"day": day, "readings": readings} for day, readings in rows])
    else:
        face.print_table(("day", "readings"), rows)


def _show_done(face: Face, found: Row, code: str, *, as_json: bool) -> None:
    if as_json:
        face.print_json(found)
    else:
        face.say(face.text(code, **found))


def _day(face: Face, option: str, text: str) -> int:
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise face.misuse("telemetry.date", option=option, value=text) from None
    return int(moment.timestamp()) * 1000
