"""Errors, sorted by what should happen next. Every exception of the hub lives here.

A code names one message in `locale/*.yaml`, in English and Chinese; `params` fill it.
"""

from __future__ import annotations

from hub.sdk.messages import render


class HubError(Exception):
    """Base. `code` is stable and translatable; `params` fill its message."""

    code = "hub.error"

    def __init__(self, code: str | None = None, /, **params: object) -> None:
        self.code = code or type(self).code
        self.params = params
        super().__init__(self.code, params)

    def __str__(self) -> str:
        return self.message("en")

    def message(self, language: str = "en") -> str:
        """One line that names the thing, the value and the next step."""
        return render(self.code, self.params, language)


class ConfigError(HubError):
    """An operator must change a setting. Never retried."""

    code = "config.invalid"


class AuthError(HubError):
    """Credentials are refused. Pause the connection, ask for renewal."""

    code = "auth.refused"


class TransientError(HubError):
    """Worth another try, after `retry_after` seconds when the other side named a time."""

    code = "transient.failed"

    def __init__(
        self, code: str | None = None, /, *, retry_after: float | None = None, **params: object
    ) -> None:
        self.retry_after = retry_after
        super().__init__(code, **params)


class RecordRejected(HubError):
    """This record goes to the dead letters; the batch goes on."""

    code = "record.rejected"


class OutcomeUnknown(HubError):
    """A write may have landed. Look it up before writing again."""

    code = "outcome.unknown"


class ContractBroken(HubError):
    """The vendor answered in a shape we do not know. Stop, keep the cursor."""

    code = "contract.broken"


class LostRace(HubError):
    """Another worker moved this run on. Stop working on it; nothing was written."""

    code = "run.lost_race"


class Clash(HubError):
    """Another process changed the same readings meanwhile. Undo the transaction, do it again."""

    code = "telemetry.clash"
