"""One call to a target: every record of it gets a receipt, whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hub.sdk.errors import AuthError, ConfigError, HubError, RecordRejected, TransientError
from hub.sdk.records import Op, Outcome, Receipt, Safety, Write
from hub.sdk.sinks import SinkWriter
from hub.store.deliveries import Intent
from hub.store.rows import decode_json, plain_text

if TYPE_CHECKING:
    from hub.engine.hub import Hub

OPERATOR_WAIT = 300.0
"""Seconds until a refused account is tried again: somebody must renew or correct something."""

_STALE_AFTER = 5.0

log = logging.getLogger("hub.engine.delivery")

Result = tuple[Intent, Receipt]


def send(hub: Hub, sink: SinkWriter, intents: Sequence[Intent]) -> list[Result]:
    """One call to the target; an error of the whole call becomes the receipt of each record."""
    if sink.safety is Safety.LOOK_UP and _is_stale(hub, sink, intents):
        receipt = Receipt("", Outcome.RETRY, code="delivery.stale", reason="claimed too long ago")
        return [(one, receipt) for one in intents]
    writes = [
        Write(
            key=one.target_key,
            data=decode_json(one.payload_text),
            op=Op(one.op),
            idempotency_key=one.idempotency_key,
            target_id=one.target_id,
        )
        for one in intents
    ]
    try:
        return list(zip(intents, map(_storable, sink.write(writes)), strict=True))
    except HubError as error:
        receipt = _storable(_receipt_of(error))
    except Exception as error:
        if hub.stopping:  # closed sockets; the next process settles what is open
            raise
        log.exception("%s: the connector's own code failed", sink.name)
        receipt = Receipt("", Outcome.UNKNOWN, code="delivery.internal", reason=repr(error)[:500])
    return [(one, receipt) for one in intents]


def _is_stale(hub: Hub, sink: SinkWriter, intents: Sequence[Intent]) -> bool:
    """Whether this process slept so long that another may have looked and written already."""
    limit_ms = max(sink.visibility_lag, _STALE_AFTER) * 1000
    return any(hub.now_ms() - one.sent_at > limit_ms for one in intents)


def _storable(receipt: Receipt) -> Receipt:
    """The receipt in text that every database takes."""
    return replace(
        receipt,
        target_id=receipt.target_id and plain_text(receipt.target_id),
        code=receipt.code and plain_text(receipt.code),
        reason=receipt.reason and plain_text(receipt.reason),
    )


def _receipt_of(error: HubError) -> Receipt:
    code = str(error.params.get("vendor_code") or error.code)
    if isinstance(error, RecordRejected):
        return Receipt("", Outcome.REJECTED, code=code, reason=str(error))
    if isinstance(error, TransientError):
        wait = error.retry_after
        return Receipt("", Outcome.RETRY, code=code, reason=str(error), retry_after=wait)
    if isinstance(error, ConfigError | AuthError):
        wait = OPERATOR_WAIT
        return Receipt("", Outcome.RETRY, code=code, reason=str(error), retry_after=wait)
    # OutcomeUnknown, and an answer in a shape we do not know: the target may have done it.
    return Receipt("", Outcome.UNKNOWN, code=code, reason=str(error))
