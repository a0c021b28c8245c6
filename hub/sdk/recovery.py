"""From what went wrong with a call to the error that names its recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hub.sdk.errors import (
    AuthError,
    ConfigError,
    ContractBroken,
    HubError,
    OutcomeUnknown,
    RecordRejected,
    TransientError,
)

Kind = Literal[
    "not_sent",
    "lost",
    "throttle",
    "retry",
    "reauth",
    "reject",
    "permanent",
    "duplicate",
    "redirect",
    "broken",
]
"""`broken` is an answer nobody can read; `error` then says why."""

_MOVED_UNTOUCHED = (301, 307, 308)


@dataclass(frozen=True, slots=True)
class Incident:
    """One call that did not succeed. Code and message are the vendor's, secrets masked."""

    kind: Kind
    connection: str
    where: str
    status: int | None = None
    code: str | None = None
    reason: str = ""
    retry_after: float | None = None
    error: HubError | None = None

    @property
    def words(self) -> dict[str, object]:
        """The params of its message."""
        status = "" if self.status in (None, 200) else f"HTTP {self.status}"
        said = " ".join(part for part in (status, self.code, self.reason) if part)
        return {
            "connection": self.connection,
            "where": self.where,
            "status": self.status,
            "vendor_code": self.code,
            "reason": said or "no reason given",
        }


def read_error(incident: Incident) -> HubError:
    """What a failed read raises."""
    kind = incident.kind
    if incident.error is not None:
        return incident.error
    if kind == "reject" and incident.status == 403:
        return AuthError("auth.forbidden", **incident.words)
    if kind in ("not_sent", "lost", "throttle", "retry"):
        return _transient(incident)
    if kind == "redirect":
        return ContractBroken("http.redirect", **incident.words)
    return _common(incident) or ContractBroken("http.vendor_error", **incident.words)


def write_error(incident: Incident) -> HubError:
    """What a failed write raises: surely not done, or outcome unknown."""
    kind = incident.kind
    if kind in ("not_sent", "throttle"):
        return _transient(incident)
    if kind == "reject":
        return RecordRejected("http.rejected", **incident.words)
    if kind == "duplicate":
        return RecordRejected("http.duplicate", **incident.words)
    if kind == "redirect" and incident.status in _MOVED_UNTOUCHED:
        return ConfigError("http.moved", **incident.words)
    if incident.error is not None:
        return OutcomeUnknown(
            "http.unknown_answer", where=incident.where, reason=str(incident.error)
        )
    return _common(incident) or OutcomeUnknown("http.unknown", **incident.words)


def login_error(incident: Incident) -> HubError:
    """What a failed login raises: whatever is not trouble on the way is a refusal."""
    no_token = incident.error is not None and incident.error.code == "http.no_sign_of_success"
    if incident.kind in ("reauth", "reject") or no_token:
        return AuthError("auth.login_refused", **incident.words)
    return read_error(incident)


def _common(incident: Incident) -> HubError | None:
    if incident.kind == "reauth":
        return AuthError("auth.refused", **incident.words)
    if incident.kind == "permanent":
        return ConfigError("http.permanent", **incident.words)
    return None


def _transient(incident: Incident) -> TransientError:
    codes = {"not_sent": "http.unreachable", "lost": "http.no_answer", "throttle": "http.throttled"}
    code = codes.get(incident.kind, "http.server_error")
    return TransientError(code, retry_after=incident.retry_after, **incident.words)
