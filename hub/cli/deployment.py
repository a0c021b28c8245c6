"""`hub init`, `hub migrate`, `hub doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the commands to `hub`."""
    app.command("init")(init)
    app.command("migrate")(migrate)
    app.command("doctor")(doctor)


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    as_json: AsJson = False,
) -> None:
    """Make a new deployment: hub.toml, connections.yaml, mappings/, connectors/."""
    from hub.engine.deployment import SETTINGS_FILE, create_deployment, open_deployment
    from hub.store.database import open_store
    from hub.store.migrate import migrate

    face = face_of(context)
    files = create_deployment(folder)
    if face.chosen_language is not None:
        settings = folder / SETTINGS_FILE
        text = settings.read_text(encoding="utf-8")
        chosen = f'language = "{face.chosen_language}"'
        settings.write_text(text.replace('language = "zh"', chosen), encoding="utf-8")
    made = Face(folder, face.chosen_language)
    deployment = open_deployment(folder)
    if deployment.settings.store.url.startswith("sqlite:"):
        store = open_store(deployment.store_url)
        try:
            migrate(store)
        finally:
            store.close()
    if as_json:
        made.print_json({"folder": str(folder), "files": [str(file) for file in files]})
        return
    made.say(made.text("init.done", folder=folder))
    made.say(made.text("init.next", folder=folder))


def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the store to the schema of this program; running it again changes nothing."""
    from hub.engine.deployment import open_deployment
    from hub.store.database import open_store
    from hub.store.migrate import migrate as upgrade
    from hub.store.migrate import schema_version

    face = face_of(context)
    store = open_store(open_deployment(face.folder).store_url)
    try:
        upgrade(store)
        url = store.engine.url.render_as_string(hide_password=True)
        version = schema_version(store)
    finally:
        store.close()
    if as_json:
        face.print_json({"store": url, "schema": version})
    else:
        face.say(face.text("migrate.done", url=url, version=version))


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the store, the connectors, the connections and the flows; exit 1 if one is broken."""
    face = face_of(context)
    with face.operations() as operations:
        report = operations.doctor()
    checks: list[dict[str, Any]] = report["checks"]
    if as_json:
        face.print_json(report)
    else:
        rows = [
            (one["check"], one["name"], one["ok"], face.error_text(one["error"]))
            if one["error"]
            else (one["check"], one["name"], one["ok"], "")
            for one in checks
        ]
        face.print_table(("check", "name", "ok", "message"), rows)
        names = ("queue", "waiting", "delayed", "running", "oldest_seconds")
        face.print_table(names, [[one[name] for name in names] for one in report["queues"]])
    if not report["ok"]:
        failed = sum(not one["ok"] for one in checks)
        raise face.fail("doctor.failed", failed=failed, checks=len(checks))
