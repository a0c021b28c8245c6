"""`hub devices …`: who sends telemetry, what is known of each, and how it fares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from hub.cli.face import Face, face_of
from hub.cli.options import AsJson, Limit

app = typer.Typer(help="Devices and gateways that send telemetry.", no_args_is_help=True)

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="Name, or id as listed.")]
Row = dict[str, Any]

_LISTED = ("device_id", "device", "gateway", "device_state", "class", "online", "last_seen")
_COUNTS = ("per_minute", "late", "duplicates", "restated", "quarantined", "clock_skew_ms")


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the device or gateway.")],
    gateway: Annotated[bool, typer.Option("--gateway", help="It speaks for others.")] = False,
    source: Annotated[str | None, typer.Option("--source", help="Default: iot.")] = None,
    token: Annotated[str | None, typer.Option("--token", help="Default: one is made.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="User name; asks a password.")] = None,
    certificate: Annotated[
        str | None, typer.Option("--certificate", help="SHA-256 of its client certificate.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a device or gateway send; a token that was made is shown this once."""
    face = face_of(context)
    given = {"source": source, "token": token, "user": user, "certificate": certificate}
    wanted: Row = {name_: value for name_, value in given.items() if value is not None}
    if user is not None:
        wanted["password"] = typer.prompt("password", hide_input=True, err=True)
    with face.operations() as operations:
        made = operations.add_device(name, {**wanted, "gateway": gateway}, actor=face.actor)
    if as_json:
        face.print_json(made)
        return
    face.say(face.text("devices.added", name=made["name"], id=made["id"]))
    if "token" in made:
        typer.echo(made["token"])


@app.command("list")
def list_devices(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="A part of the name.")] = None,
    source: Annotated[str | None, typer.Option("--source")] = None,
    gateway: Annotated[str | None, typer.Option("--gateway", help="Behind this gateway.")] = None,
    kind: Annotated[str | None, typer.Option("--class", help="Of this class.")] = None,
    state: Annotated[
        Literal["active", "waiting", "refused"] | None, typer.Option("--state")
    ] = None,
    silent: Annotated[
        str | None, typer.Option("--silent", metavar="SPAN", help="Nothing received for so long.")
    ] = None,
    after: Annotated[str | None, typer.Option("--after", help="`next` of the page before.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Devices with when they were seen, their rate and what was wrong."""
    face = face_of(context)
    filters = {"name": name, "source": source, "gateway": gateway, "class": kind}
    with face.operations() as operations:
        found = operations.devices({**filters, "state": state, "silent": silent}, limit, after)
    if as_json:
        face.print_json(found)
        return
    face.print_table((*_LISTED, *_COUNTS), [_cells(face, row) for row in found["items"]])
    if found["next"]:
        face.say(face.text("devices.more", next=found["next"]))


@app.command("show")
def show(context: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """One device: state, newest values, attributes, credentials."""
    face = face_of(context)
    with face.operations() as operations:
        row = operations.device(device)
    if as_json:
        face.print_json(row)
        return
    face.print_table((*_LISTED, *_COUNTS), [_cells(face, row)])
    columns = ("metric", "value", "unit", "ts")
    metrics = [(one["metric"], one["value"], one["unit"], one["ts"]) for one in row["metrics"]]
    face.print_table(columns, metrics)
    face.print_table(
        ("credential", "kind", "credential_name", "created_at", "revoked_at"),
        [
            (one["id"], one["kind"], one["name"], one["created_at"], one["revoked_at"])
            for one in row["credentials"]
        ],
    )


@app.command("set")
def change(
    context: typer.Context,
    device: Device,
    kind: Annotated[str | None, typer.Option("--class", help="Its class.")] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="Its time zone.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="For people.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Its customer's id.")] = None,
    serial: Annotated[str | None, typer.Option("--serial", help="Its serial number.")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME=VALUE", help="Shared; NAME= removes it."),
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option("--unit", metavar="METRIC=UNIT", help="Repeat for more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a device: class, zone, customer, serial number, attributes, units."""
    face = face_of(context)
    given = {"class": kind, "zone": zone, "title": title, "customer_id": customer}
    changes: Row = {
        name: value for name, value in {**given, "serial_no": serial}.items() if value is not None
    }
    if attribute:
        changes["attributes"] = {
            name: text or None for name, text in _pairs(face, attribute).items()
        }
    if unit:
        changes["units"] = _pairs(face, unit)
    _change(face, device, changes, as_json)


@app.command("approve")
def approve(context: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """Take a device that waits into service, with what it sent meanwhile."""
    _change(face_of(context), device, {"state": "active"}, as_json)


@app.command("refuse")
def refuse(context: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """Keep nothing more of a device: its readings are quarantined."""
    _change(face_of(context), device, {"state": "refused"}, as_json)


@app.command("revoke")
def revoke(
    context: typer.Context,
    device: Device,
    credential: Annotated[str, typer.Argument(metavar="CREDENTIAL", help="As shown.")],
    as_json: AsJson = False,
) -> None:
    """Admit nobody by this credential any more, within ten seconds."""
    face = face_of(context)
    with face.operations() as operations:
        done = operations.revoke_credential(device, credential, actor=face.actor)
    if as_json:
        face.print_json(done)
    else:
        face.say(face.text("devices.revoked", name=done["device"], credential=done["credential"]))


def _change(face: Face, device: str, changes: Row, as_json: bool) -> None:
    with face.operations() as operations:
        row = operations.change_device(device, changes, actor=face.actor)
    if as_json:
        face.print_json(row)
    else:
        face.say(face.text("devices.changed", name=row["name"], state=row["state"]))


def _pairs(face: Face, given: list[str]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise face.fail("devices.pair", value=pair)
        found[name] = value
    return found


def _cells(face: Face, row: Row) -> tuple[object, ...]:
    known = (row["id"], row["name"], row["gateway"], face.text(f"device_state.{row['state']}"))
    seen = (row["class"], row["online"], row["seen_at"])
    return (*known, *seen, *(row[name] for name in _COUNTS))
