"""Writing records: one receipt per record, never a guess about what happened to it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hub.sdk.body import MISSING, dig
from hub.sdk.envelope import classify_item
from hub.sdk.errors import (
    AuthError,
    ConfigError,
    ContractBroken,
    HubError,
    OutcomeUnknown,
    RecordRejected,
    TransientError,
)
from hub.sdk.http import Client
from hub.sdk.manifest import Find, Poll, Receipts, Request, Sink
from hub.sdk.records import Op, Outcome, Receipt, Row, Safety, Write
from hub.sdk.reply import Reply

_RETRY = ("throttle", "retry", "reauth")
_GONE = (404, 410)
_UNFILLED = ("http.empty_name", "http.unknown_name", "http.dots")


class SinkWriter:
    """Writes one kind of record to a connection."""

    def __init__(
        self, name: str, sink: Sink, client: Client, before: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.sink = sink
        self._client = client
        self._before = before
        self._where = f"{client.connection.name}.{name}"

    def checked(self, before: Callable[[], None]) -> SinkWriter:
        """The same writer, which calls `before` when all waiting is over and bytes are to follow.

        What it raises ends the write; nothing has been sent then.
        """
        return SinkWriter(self.name, self.sink, self._client, before)

    @property
    def safety(self) -> Safety:
        """How a repeated write is made harmless."""
        return self.sink.safety

    @property
    def batch(self) -> int:
        """The most records one call carries."""
        return self.sink.batch

    @property
    def visibility_lag(self) -> float:
        """Seconds until a written record can be found."""
        return self.sink.visibility_lag

    @property
    def can_find(self) -> bool:
        """Whether `find` is declared."""
        return self.sink.find is not None

    def repeatable(self, op: str, target_id: str | None) -> bool:
        """Whether sending a write once more does no harm.

        Without help from the target only a creation does: values are absolute, and what is
        removed stays so.
        """
        if self.safety is not Safety.LOOK_UP or op != Op.UPSERT:
            return True
        return target_id is not None and self.sink.update is not None

    def write(self, writes: Sequence[Write]) -> list[Receipt]:
        """One receipt per write, in order.

        A failure of the first call that concerns no record in particular (TransientError,
        AuthError, ConfigError, ContractBroken) is raised. Later ones leave what was answered
        before as it is, and RETRY for the rest. A refused or unknown write is a receipt.
        """
        receipts: list[Receipt] = []
        for chunk in self._chunks(writes):
            try:
                receipts += self._write_chunk(chunk)
            except HubError as error:
                if not receipts:
                    raise
                rest = writes[len(receipts) :]
                return receipts + [_receipt(write, Outcome.RETRY, error) for write in rest]
            if _gone_silent(receipts):
                rest = writes[len(receipts) :]
                return receipts + [Receipt(w.key, Outcome.RETRY, tried=False) for w in rest]
        return receipts

    def find(self, key: str) -> str | None:
        """The target's id of the record with our `key`. Two hits raise ContractBroken."""
        find = self.sink.find
        if find is None:
            raise ConfigError("sink.no_find", where=self._where)
        if isinstance(find, str):
            return self._find_by_hook(find, key)
        reply = self._client.call(find.request, {"key": key}, read=True)
        ids = {self._found_id(row, find) for row in self._found(reply, find, key)}
        if len(ids) > 1:
            raise ContractBroken("sink.ambiguous", where=self._where, key=key, hits=len(ids))
        return next(iter(ids), None)

    def show(self, target_id: str) -> Row | None:
        """The record with the target's id as the stream of `verify` lists it; None when gone."""
        show = self.sink.show
        if show is None:
            raise ConfigError("sink.no_show", where=self._where)
        try:
            reply = self._client.call(show.request, {"target_id": target_id}, read=True)
        except ContractBroken as error:
            if error.params.get("status") in _GONE:
                return None
            raise
        row = None if reply.empty else dig(reply.body, show.data)
        if row is None or row == []:
            return None
        row = row[0] if isinstance(row, list) and len(row) == 1 else row
        if not isinstance(row, dict):
            found = "nothing" if row is MISSING else type(row).__name__
            raise ContractBroken(
                "read.no_data_path", where=self._where, path=show.data, found=found
            )
        return row

    # --- one call -----------------------------------------------------------------------------

    def _chunks(self, writes: Sequence[Write]) -> list[list[Write]]:
        """Upserts in batches, deletions one by one, the order kept."""
        chunks: list[list[Write]] = []
        for write in writes:
            last = chunks[-1] if chunks else None
            joins = last and last[0].op is Op.UPSERT and len(last) < self.sink.batch
            if last is not None and joins and write.op is Op.UPSERT:
                last.append(write)
            else:
                chunks.append([write])
        return chunks

    def _write_chunk(self, chunk: list[Write]) -> list[Receipt]:
        try:
            by_id = chunk[0].target_id is not None and self.sink.update is not None
            alone = len(chunk) == 1 and (by_id or self.sink.batch == 1)
            if chunk[0].op is Op.UPSERT and not alone:
                return self._write_batch(chunk)
            return [self._write_one(chunk[0])]
        except RecordRejected as error:
            if len(chunk) == 1:
                return [_receipt(chunk[0], Outcome.REJECTED, error)]
            # One bad record may have spoilt the batch; a batch sink is safe to write again.
            middle = len(chunk) // 2
            return self._write_chunk(chunk[:middle]) + self._write_chunk(chunk[middle:])
        except OutcomeUnknown as error:
            return [_receipt(write, Outcome.UNKNOWN, error) for write in chunk]

    def _write_one(self, write: Write) -> Receipt:
        deletes = write.op is not Op.UPSERT
        try:
            reply = self._call(self._request(write), write)
            reply = self._polled(reply, self.sink.poll) if self.sink.poll else reply
        except RecordRejected as error:
            settled = _already_gone(write, error) if deletes else self._duplicate(write, error)
            if settled is None:
                raise
            return settled
        found = MISSING if self.sink.id is None else dig(reply.body, self.sink.id)
        return Receipt(write.key, Outcome.WRITTEN, _id_text(found) or write.target_id)

    def _request(self, write: Write) -> Request:
        if write.op is not Op.UPSERT:
            request = self.sink.delete or self.sink.deactivate
            if write.op is Op.DEACTIVATE:
                request = self.sink.deactivate
            if request is None:
                raise ConfigError("sink.no_delete", where=self._where)
            return request
        request = self.sink.request
        if write.target_id is not None and self.sink.update is not None:
            request = self.sink.update
        return _with_body(request, "@record")

    def _call(self, request: Request, write: Write) -> Reply:
        record = self._record(write)
        special = {
            "key": write.key,
            "idempotency_key": write.idempotency_key,
            "target_id": write.target_id,
            "record": record,
        }
        headers = {}
        if self.safety is Safety.IDEMPOTENCY_KEY:
            headers[self.sink.idempotency_header] = write.idempotency_key
        # Settings before the record: its fields must never stand in for one.
        config = dict(self._client.connection.config)
        context = ChainMap(special, config, dict(write.data))
        try:
            return self._client.call(
                request, context, read=False, headers=headers, before=self._before
            )
        except ConfigError as error:
            if error.code in _UNFILLED:
                raise RecordRejected(error.code, **error.params) from error
            raise

    def _record(self, write: Write) -> Mapping[str, Any]:
        """The data with our key in its field."""
        if "." in self.sink.key or self.sink.key in write.data:
            return write.data
        return {**write.data, self.sink.key: write.key}

    # --- duplicates and deletions -------------------------------------------------------------

    def _duplicate(self, write: Write, error: RecordRejected) -> Receipt | None:
        """What an `already there` means: still running, or an earlier try of ours that landed."""
        if error.code != "http.duplicate" and error.params.get("status") != 409:
            return None
        if self.safety is Safety.IDEMPOTENCY_KEY:
            return _receipt(write, Outcome.RETRY, error)
        if self.safety is Safety.LOOK_UP and self.can_find and write.target_id is None:
            found = self._looked_up(write.key)
            return None if found is None else self._adopt(write, found)
        return None

    def _adopt(self, write: Write, found: str) -> Receipt:
        """Take over the record that is there; where it can be updated, make it say what we say."""
        if self.sink.update is None:
            return Receipt(write.key, Outcome.WRITTEN, found, details={"adopted": True})
        receipt = self._write_one(replace(write, target_id=found))
        return replace(receipt, details={**receipt.details, "adopted": True})

    def _looked_up(self, key: str) -> str | None:
        try:
            return self.find(key)
        except TransientError as error:
            raise OutcomeUnknown(
                "http.unknown_answer", where=self._where, reason=str(error)
            ) from error

    # --- queued writes ------------------------------------------------------------------------

    def _polled(self, reply: Reply, poll: Poll) -> Reply:
        """The final answer of a write that was queued."""
        for _ in range(poll.tries):
            url = dig(reply.body, poll.url)
            if url is MISSING or url is None or url == "":
                return reply
            self._client.clock.sleep(_pause(reply, poll))
            reply = self._ask(str(url))
        raise OutcomeUnknown("sink.still_queued", where=self._where, tries=poll.tries)

    def _ask(self, url: str) -> Reply:
        try:
            return self._client.call(Request(get="{url}"), read=True, url=url)
        except HubError as error:
            if error.code == "http.vendor_error":
                raise RecordRejected("http.rejected", **error.params) from error
            raise OutcomeUnknown(
                "http.unknown_answer", where=self._where, reason=str(error)
            ) from error

    # --- batches ------------------------------------------------------------------------------

    def _write_batch(self, chunk: list[Write]) -> list[Receipt]:
        receipts = self.sink.receipts
        if receipts is None:
            raise ConfigError("sink.no_receipts", where=self._where)
        records = [self._record(write) for write in chunk]
        request = _with_body(self.sink.request, "@records")
        context = {"records": records}
        reply = self._client.call(request, context, read=False, before=self._before)
        answers = self._answers(reply, receipts)
        keys = [_id_text(dig(dict(record), self.sink.key)) for record in records]
        return [
            self._item_receipt(write, answers.get(key or write.key, []), receipts)
            for write, key in zip(chunk, keys, strict=True)
        ]

    def _answers(self, reply: Reply, receipts: Receipts) -> dict[str, list[Any]]:
        """The entries of the answer by key; entries of nobody's key are not looked at."""
        items = dig(reply.body, receipts.items)
        found: dict[str, list[Any]] = {}
        for item in items if isinstance(items, list) else []:
            key = _id_text(dig(item, receipts.key))
            if key is not None:
                found.setdefault(key, []).append(item)
        return found

    def _item_receipt(self, write: Write, items: list[Any], receipts: Receipts) -> Receipt:
        if not items:
            return Receipt(write.key, Outcome.UNKNOWN, code="sink.no_receipt")
        kinds = [classify_item(item, receipts.ok, receipts.errors) for item in items]
        failed = [n for n, kind in enumerate(kinds) if kind != "ok"]
        if not failed:
            id_ = None if receipts.id is None else _id_text(dig(items[-1], receipts.id))
            return Receipt(write.key, Outcome.WRITTEN, id_ or write.target_id)
        item = items[failed[0]]
        outcome = Outcome.RETRY if kinds[failed[0]] in _RETRY else Outcome.REJECTED
        return Receipt(
            write.key,
            outcome,
            code=self._said(item, receipts.code),
            reason=self._said(item, receipts.reason),
        )

    def _said(self, item: Any, path: str | None) -> str | None:
        text = None if path is None else _id_text(dig(item, path))
        return None if text is None else self._client.connection.mask(text[:500])

    # --- looking up ---------------------------------------------------------------------------

    def _find_by_hook(self, name: str, key: str) -> str | None:
        def call(request: Request, context: Mapping[str, Any] | None = None) -> Reply:
            return self._client.call(request, context, read=True)

        connection = self._client.connection
        found = connection.connector.hook(name)(call, connection.config, key)
        return None if found is None else str(found)

    def _found(self, reply: Reply, find: Find, key: str) -> list[Any]:
        rows = [] if reply.empty else dig(reply.body, find.data)
        if isinstance(rows, dict):
            rows = [rows]
        if not isinstance(rows, list):
            found = "nothing" if rows is MISSING else type(rows).__name__
            raise ContractBroken(
                "read.no_data_path", where=self._where, path=find.data, found=found
            )
        return [row for row in rows if _id_text(dig(row, find.match)) == key]

    def _found_id(self, row: Any, find: Find) -> str:
        found = _id_text(dig(row, find.id))
        if found is None:
            raise ContractBroken("sink.no_id", where=self._where, path=find.id)
        return found


def _with_body(request: Request, default: str) -> Request:
    """The request with the data as its body when none is declared."""
    if request.body is not None or request.method not in ("POST", "PUT", "PATCH"):
        return request
    return request.model_copy(update={"body": default})


def _pause(reply: Reply, poll: Poll) -> float:
    """How long the vendor asks to wait, within reason."""
    asked = MISSING if poll.wait is None else dig(reply.body, poll.wait)
    try:
        seconds = float(str(asked))
    except ValueError:
        return poll.every
    return min(max(seconds, 0.0), 60.0) if seconds == seconds else poll.every


def _already_gone(write: Write, error: RecordRejected) -> Receipt | None:
    """Deleting what is not there any more has had its effect."""
    if error.params.get("status") in _GONE:
        return Receipt(write.key, Outcome.WRITTEN, write.target_id)
    return None


def _gone_silent(receipts: list[Receipt]) -> bool:
    """Whether the last answer was lost: further writes would only be lost as well."""
    return receipts[-1].details.get("lost") is True


def _receipt(write: Write, outcome: Outcome, error: HubError) -> Receipt:
    code = error.params.get("vendor_code")
    retry_after = error.retry_after if isinstance(error, TransientError) else None
    lost = outcome is Outcome.UNKNOWN and error.params.get("status") is None
    return Receipt(
        write.key,
        outcome,
        target_id=write.target_id,
        code=error.code if code is None else str(code),
        reason=str(error),
        retry_after=retry_after,
        details={"lost": True} if lost else {},
        tried=not isinstance(error, TransientError | AuthError | ConfigError),
    )


def _id_text(value: Any) -> str | None:
    if value is MISSING or value is None or value == "" or isinstance(value, dict | list):
        return None
    return str(value)
