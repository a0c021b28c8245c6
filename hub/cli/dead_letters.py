"""`hub dead-letters …`: what a person must look at, and what is done about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.face import Face, face_of, one_line
from hub.cli.letter_filters import Filters, InState, takes_filters
from hub.cli.options import AsJson, Limit

if TYPE_CHECKING:
    from hub.engine.operations import Operations

app = typer.Typer(help="Records and deliveries that need a look.", no_args_is_help=True)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="As listed.")]
MaybeId = Annotated[str | None, typer.Argument(metavar="[ID]", help="As listed.")]
All = Annotated[bool, typer.Option("--all", help="Every open letter that the filters name.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="Give up waiting after this.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Only ask for it.")]


@app.command("list")
@takes_filters
def list_letters(
    context: typer.Context,
    filters: Filters,
    state: InState = "open",
    after: Annotated[
        str | None, typer.Option("--after", metavar="PLACE", help="Go on behind a page.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Dead letters, newest first: what stopped, where and why."""
    face = face_of(context)
    filters["state"] = state
    with face.operations() as operations:
        rows, following = _collect(operations, filters, limit, after)
    if as_json:
        face.print_json(rows)
    else:
        face.print_table(
            ("letter", "kind", "state", "flow", "source_key", "field", "message"),
            [
                (
                    row["id"][:12],
                    row["kind"],
                    face.text(f"letter.{row['state']}"),
                    row["flow_id"],
                    row["source_key"],
                    row["field_name"],
                    row["reason"][face.language],
                )
                for row in rows
            ],
        )
    if following is not None:
        face.say(face.text("cli.more", after=following))


@app.command("show")
def show(context: typer.Context, letter: LetterId, as_json: AsJson = False) -> None:
    """One dead letter with every problem and the record as it came."""
    face = face_of(context)
    with face.operations() as operations:
        found = operations.dead_letter(letter)
    if as_json:
        face.print_json(found)
    else:
        _show(face, found)


@app.command("summary")
@takes_filters
def summary(
    context: typer.Context,
    filters: Filters,
    state: InState = "open",
    as_json: AsJson = False,
) -> None:
    """How many letters for which reason."""
    face = face_of(context)
    filters["state"] = state
    with face.operations() as operations:
        found = operations.count_dead_letters(filters)
    _print_reasons(face, found, as_json=as_json)


@app.command("replay")
@takes_filters
def replay(
    context: typer.Context,
    filters: Filters,
    letter: MaybeId = None,
    edit: Annotated[
        Path | None,
        typer.Option("--edit", metavar="FILE", help="The whole payload as JSON; - is stdin."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field; repeat for more."),
    ] = None,
    landed: Annotated[
        bool, typer.Option("--landed", help="A doubtful write is there; send nothing.")
    ] = False,
    send_again: Annotated[
        bool, typer.Option("--send-again", help="A doubtful write is not there; send it.")
    ] = False,
    target_id: Annotated[
        str | None, typer.Option("--target-id", help="The id it has there (with --landed).")
    ] = None,
    every: All = False,
    per_second: Annotated[
        float | None, typer.Option("--per-second", metavar="N", help="No more than this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would be.")] = False,
    wait: Wait = 600.0,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Send a letter its way again, as it is or edited; with --all every one that matches."""
    from hub.cli import replays

    face = face_of(context)
    one = {"edit": edit, "set": changes, "target_id": target_id}
    many = {"per_second": per_second, "dry_run": dry_run or None, **filters}
    _one_or_all(face, letter, every=every, one=one, many=many)
    if landed and send_again:
        raise typer.BadParameter("--landed and --send-again exclude each other")
    seconds = 0.0 if no_wait else wait
    if letter is None and dry_run:
        with face.operations() as operations:
            found = operations.replay_letters(filters, None, dry_run=True, actor=face.actor)
        _print_reasons(face, found, as_json=as_json)
    elif letter is None:
        replays.replay_all(face, filters, per_second, seconds, as_json=as_json)
    else:
        decision = "landed" if landed else "send_again" if send_again else None
        wanted = {
            "edit": replays.read_edit(face, edit),
            "set": replays.read_changes(face, changes or []),
            "decision": decision,
            "target_id": target_id,
        }
        given = {name: value for name, value in wanted.items() if value not in (None, {})}
        replays.replay_one(face, letter, given, seconds, as_json=as_json)


@app.command("replays")
def list_replays(
    context: typer.Context,
    replay_id: Annotated[
        str | None, typer.Argument(metavar="[REPLAY]", help="Only this one.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest replays and how far they are; with --cancel stop one."""
    from hub.cli import replays

    if cancel and replay_id is None:
        raise typer.BadParameter("--cancel needs the replay")
    face = face_of(context)
    with face.operations() as operations:
        if replay_id is None:
            rows = operations.replays(limit)
        elif cancel:
            rows = [operations.cancel_replay(replay_id, actor=face.actor)]
        else:
            rows = [operations.replay(replay_id)]
    if as_json:
        face.print_json(rows if replay_id is None else rows[0])
    else:
        replays.print_replays(face, rows)


@app.command("discard")
@takes_filters
def discard(
    context: typer.Context,
    filters: Filters,
    letter: MaybeId = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; the audit keeps it.")
    ] = "",
    every: All = False,
    as_json: AsJson = False,
) -> None:
    """Leave a letter out for good; with --all every one that matches."""
    face = face_of(context)
    _one_or_all(face, letter, every=every, one={}, many=filters)
    with face.operations() as operations:
        if letter is not None:
            found = operations.discard_letter(letter, reason, actor=face.actor)
            number = 1
        else:
            found = operations.discard_letters(filters, reason, actor=face.actor)
            number = found["discarded"]
    if as_json:
        face.print_json(found)
    else:
        face.say(face.text("letter.were_discarded", number=number))


def _one_or_all(
    face: Face, letter: str | None, *, every: bool, one: dict[str, Any], many: dict[str, Any]
) -> None:
    """Options of one letter and of many do not mix. Raises Failed or BadParameter."""
    if (letter is None) != every:
        raise face.misuse("dead_letter.id_or_all")
    wrong = many if letter is not None else one
    for name, value in wrong.items():
        if value:
            other = "one letter" if letter is not None else "--all"
            raise typer.BadParameter(f"--{name.replace('_', '-')} does not go with {other}")


def _collect(
    operations: Operations, filters: Filters, limit: int, after: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """A full page: one that a narrow filter left short is gone on with."""
    rows: list[dict[str, Any]] = []
    while True:
        page = operations.dead_letters(filters, limit - len(rows), after)
        rows += page["items"]
        after = page["next"]
        if after is None or len(rows) >= limit:
            return rows, after


def _show(face: Face, found: dict[str, Any]) -> None:
    import msgspec

    state = face.text(f"letter.{found['state']}")
    head = (found["id"], found["kind"], state, found["flow_id"], found["source_key"])
    typer.echo(one_line("  ".join(head)))
    for problem in found["problems"]:
        typer.echo(f"  {one_line(problem['messages'][face.language])}")
    for name in ("vendor_code", "attempts", "run_id", "opened_at", "mapping_version",
                 "closed_how", "closed_by", "note"):  # fmt: skip
        if found[name]:
            typer.echo(f"  {face.text(f'column.{name}')}: {one_line(str(found[name]))}")
    encode = msgspec.json.Encoder(decimal_format="number").encode
    typer.echo(msgspec.json.format(encode(found["payload"])).decode())
    if found["edited"] is not None:
        typer.echo(face.text("letter.edited"))
        typer.echo(msgspec.json.format(encode(found["edited"])).decode())


def _print_reasons(face: Face, found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        face.print_json(found)
        return
    names = ("flow_id", "kind", "error_code", "field_name", "vendor_code", "letters")
    headings = ("flow", "kind", "error_code", "field", "vendor_code", "letters")
    face.print_table(headings, [[one[name] for name in names] for one in found["reasons"]])
    face.say(face.text("letter.total", number=found["total"]))
