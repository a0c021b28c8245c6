"""`hub audit …`: who changed what."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.face import face_of
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Who changed what.", no_args_is_help=True)


@app.command("list")
def list_entries(
    context: typer.Context,
    actor: Annotated[str | None, typer.Option("--actor", help="Only of this person.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only of this kind.")] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Only about what begins like this.")
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", min=1, metavar="N", help="Older than entry N.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The newest entries: replays, edits, discards, decisions, changes of secrets."""
    face = face_of(context)
    filters = {"actor": actor, "action": action, "subject": subject}
    with face.operations() as operations:
        page = operations.audit(filters, limit, after)
    if as_json:
        face.print_json(page["items"])
    else:
        import msgspec

        names = ("entry_no", "happened_at", "actor", "action", "subject")
        face.print_table(
            (*names, "details"),
            [
                (*(one[name] for name in names), msgspec.json.encode(one["details"]).decode())
                for one in page["items"]
            ],
        )
    if page["next"] is not None:
        face.say(face.text("cli.more", after=page["next"]))


@app.command("verify")
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Reckon the chain of hashes again; exit 1 when an entry was edited or removed."""
    face = face_of(context)
    with face.operations() as operations:
        verdict = operations.verify_audit()
    if as_json:
        face.print_json(verdict)
    if not verdict["ok"]:
        raise face.fail("audit.broken", entry=verdict["broken"], entries=verdict["entries"])
    if not as_json:
        newest = verdict["newest_hash"] or "-"
        face.say(face.text("audit.holds", entries=verdict["entries"], hash=newest))
