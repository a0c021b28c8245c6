"""Who may send telemetry: tokens, user names with passwords, client certificates.

A token is kept as its SHA-256 and a password as its scrypt: neither can be read back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.sdk.errors import ConfigError
from hub.sdk.telemetry import Sender
from hub.store.tables.telemetry import credential

TOKEN, PASSWORD, CERTIFICATE = "token", "password", "certificate"

_LOG_N, _R, _P = 14, 8, 1  # 16 MB and some 40 ms for each look
_SALT_BYTES = 16


class Credential(NamedTuple):
    """A credential as an operator sees it. `name`: the user, the fingerprint, "" for a token."""

    credential_id: str
    kind: str
    name: str
    sender: Sender
    created_at: int
    revoked_at: int | None


class Account(NamedTuple):
    """What a user's password is checked against."""

    verifier: str
    sender: Sender


def new_token() -> str:
    """A token nobody can guess, of letters that may be written in a URL."""
    return secrets.token_urlsafe(24)


def token_lookup(token: str) -> str:
    """How a token is found."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def hash_password(password: str) -> str:
    """What is kept of a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    derived = _scrypt(password, salt, _LOG_N, _R, _P)
    return "$".join(["scrypt", str(_LOG_N), str(_R), str(_P), _b64(salt), _b64(derived)])


def verify_password(password: str, verifier: str) -> bool:
    """Whether `verifier` was made of this password. Takes some 40 ms, by intention."""
    try:
        name, log_n, r, p, salt, derived = verifier.split("$")
        found = _scrypt(password, base64.b64decode(salt), int(log_n), int(r), int(p))
        return name == "scrypt" and hmac.compare_digest(found, base64.b64decode(derived))
    except (ValueError, binascii.Error):
        return False


# --- adding and revoking ----------------------------------------------------------------------


def add_token(connection: Connection, token: str, sender: Sender, now_ms: int) -> str:
    """Let whoever has the token send as `sender`; the credential's id.

    Raises ConfigError (`credential.taken`) when the token is in use.
    """
    return _add(connection, TOKEN, token_lookup(token), "", sender, now_ms)


def add_password(
    connection: Connection, user: str, password: str, sender: Sender, now_ms: int
) -> str:
    """As `add_token`, for a user name and its password."""
    return _add(connection, PASSWORD, user, hash_password(password), sender, now_ms)


def add_certificate(connection: Connection, fingerprint: str, sender: Sender, now_ms: int) -> str:
    """As `add_token`, for the SHA-256 of a client certificate (hex, colons allowed)."""
    return _add(connection, CERTIFICATE, _plain_hex(fingerprint), "", sender, now_ms)


def revoke(connection: Connection, credential_id: str, now_ms: int) -> bool:
    """Nobody is admitted by it any more (a running server notices within 10 s); whether it was
    there and valid."""
    valid = (credential.c.credential_id == credential_id, credential.c.revoked_at.is_(None))
    done = connection.execute(credential.update().where(*valid).values(revoked_at=now_ms))
    return done.rowcount == 1


def revoked_since(connection: Connection, since_ms: int) -> dict[str, Sender]:
    """The credentials that were revoked since then, by their ids."""
    columns = credential.c
    rows = connection.execute(
        sa.select(columns.credential_id, columns.source, columns.device, columns.gateway).where(
            columns.revoked_at >= since_ms
        )
    )
    return {row[0]: Sender(row[1], row[2], bool(row[3])) for row in rows}


def list_credentials(
    connection: Connection, source: str | None = None, device: str | None = None
) -> list[Credential]:
    """All credentials, or those of a source or device; revoked ones too, oldest first."""
    statement = sa.select(credential).order_by(credential.c.created_at, credential.c.credential_id)
    if source is not None:
        statement = statement.where(credential.c.source == source)
    if device is not None:
        statement = statement.where(credential.c.device == device)
    return [_shown(row) for row in connection.execute(statement)]


def _add(
    connection: Connection, kind: str, lookup: str, verifier: str, sender: Sender, now_ms: int
) -> str:
    mine = (credential.c.kind == kind, credential.c.lookup == lookup)
    connection.execute(credential.delete().where(*mine, credential.c.revoked_at.is_not(None)))
    row = {
        "credential_id": uuid.uuid4().hex,
        "kind": kind,
        "lookup": lookup,
        "verifier": verifier,
        "source": sender.source,
        "device": sender.device,
        "gateway": int(sender.gateway),
        "created_at": now_ms,
    }
    try:
        with connection.begin_nested():
            connection.execute(credential.insert().values(row))
    except sa.exc.IntegrityError as error:
        shown = "" if kind == TOKEN else lookup
        raise ConfigError("credential.taken", kind=kind, name=shown) from error
    return str(row["credential_id"])


# --- finding ----------------------------------------------------------------------------------


def find_token(connection: Connection, lookup: str) -> Sender | None:
    """Who holds the token with this `token_lookup`."""
    found = _find(connection, TOKEN, lookup)
    return None if found is None else found.sender


def find_password(connection: Connection, user: str) -> Account | None:
    """The account of a user name; the password is still to be verified."""
    return _find(connection, PASSWORD, user)


def find_certificate(connection: Connection, fingerprint: str) -> Sender | None:
    """Who holds the certificate with this SHA-256 (hex)."""
    found = _find(connection, CERTIFICATE, _plain_hex(fingerprint))
    return None if found is None else found.sender


_FIND = sa.select(
    credential.c.verifier, credential.c.source, credential.c.device, credential.c.gateway
).where(
    credential.c.kind == sa.bindparam("kind"),
    credential.c.lookup == sa.bindparam("lookup"),
    credential.c.revoked_at.is_(None),
)


def _find(connection: Connection, kind: str, lookup: str) -> Account | None:
    if not _storable(lookup):
        return None
    row = connection.execute(_FIND, {"kind": kind, "lookup": lookup}).first()
    return None if row is None else Account(row[0], Sender(row[1], row[2], bool(row[3])))


def _storable(lookup: str) -> bool:
    """Whether a database takes this text at all; a stranger may send any."""
    return "\0" not in lookup and lookup.encode("utf-8", "ignore").decode() == lookup


def _shown(row: sa.Row[tuple[object, ...]]) -> Credential:
    one = row._mapping
    sender = Sender(one["source"], one["device"], bool(one["gateway"]))
    name = "" if one["kind"] == TOKEN else one["lookup"]
    times = one["created_at"], one["revoked_at"]
    return Credential(one["credential_id"], one["kind"], name, sender, *times)


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    memory = 128 * r * (1 << log_n) + (1 << 20)
    return hashlib.scrypt(raw, salt=salt, n=1 << log_n, r=r, p=p, maxmem=memory, dklen=32)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _plain_hex(fingerprint: str) -> str:
    return fingerprint.replace(":", "").strip().lower()
