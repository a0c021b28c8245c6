"""A model of Telegraf against the face: what is sent arrives, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator

import pytest

from connectors.iot.decoders import DECODERS
from connectors.iot.influx import InfluxFace
from hub.sdk.errors import HubError, TransientError
from hub.sdk.telemetry import Message, Receipt, Sender
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.telegraf_model import Telegraf, TelegrafV1, TelegrafV2
from tests.real_clients.harness import FaceServer

PLANT = Sender("iot", "plant", gateway=True)
TROUBLES = {
    "overload": TransientError("telemetry.overload", retry_after=1),
    "disk_full": TransientError("telemetry.disk_full", retry_after=5),
    "store": TransientError("telemetry.store", retry_after=5),
    "failed": HubError("telemetry.failed", kind="Odd"),
}


class FlakyPort(MemoryPort):
    """Fails the next `failures` times, before or (a lost answer) after the message is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.after_keeping = False
        self.error: HubError = TROUBLES["overload"]

    def keep(self, message: Message) -> Awaitable[Receipt]:
        if self.failures > 0:
            self.failures -= 1
            if self.after_keeping:
                super().keep(message).close()  # type: ignore[attr-defined]
            raise self.error
        return super().keep(message)


@pytest.fixture(scope="module")
def one_server() -> Iterator[FaceServer]:
    port = FlakyPort()
    with FaceServer(port, InfluxFace(port)) as running:
        yield running


@pytest.fixture
def server(one_server: FaceServer) -> FaceServer:
    vars(one_server.port).update(vars(FlakyPort()), tokens={"t1": PLANT})
    return one_server


@pytest.fixture(params=[TelegrafV1, TelegrafV2])
def telegraf(request: pytest.FixtureRequest, server: FaceServer) -> Telegraf:
    made: Telegraf = request.param(server.url, "t1", batch=100)
    made.gather(*(f"vib,host=A rms={number} {number}000000" for number in range(1000)))
    return made


def arrived(server: FaceServer) -> list[float]:
    """The values that the hub would store, each reading once, in order of their time."""
    found: dict[tuple[str, str, int], float] = {}
    for message in server.port.kept:
        decoded = DECODERS[message.format](message.body, message.details, message.received_at)
        found |= {(one[0], one[1], one[2]): one[3] for one in decoded.samples}
    return [value for _, value in sorted(found.items())]


ALL = [float(number) for number in range(1000)]


@pytest.mark.parametrize("zipped", [False, True])
def test_all_is_well(server: FaceServer, telegraf: Telegraf, zipped: bool) -> None:
    telegraf.zipped = zipped
    telegraf.flush()
    assert (arrived(server), telegraf.dropped, telegraf.requests) == (ALL, [], 10)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("after_keeping", [False, True])
def test_nothing_is_lost_while_the_hub_is_in_trouble(
    server: FaceServer, telegraf: Telegraf, trouble: str, after_keeping: bool
) -> None:
    port = server.port
    assert isinstance(port, FlakyPort)
    port.failures, port.error, port.after_keeping = 7, TROUBLES[trouble], after_keeping
    telegraf.flush(rounds=7)
    assert telegraf.dropped == []
    assert len(telegraf.buffer) == 1000
    telegraf.flush()
    assert (arrived(server), telegraf.dropped, len(telegraf.buffer)) == (ALL, [], 0)


def test_nothing_is_lost_while_the_queue_is_full(server: FaceServer, telegraf: Telegraf) -> None:
    server.port.free = 0.0
    telegraf.flush(rounds=3)
    server.port.free = 1.0
    telegraf.flush()
    assert (arrived(server), telegraf.dropped) == (ALL, [])


def test_v2_is_told_how_long_to_wait(server: FaceServer) -> None:
    telegraf = TelegrafV2(server.url, "t1")
    telegraf.gather("vib,host=A rms=1")
    server.port.trouble = TransientError("telemetry.overload", retry_after=3)
    telegraf.flush()
    assert telegraf.waits == [3.0]


def test_nothing_is_lost_while_the_token_is_unknown(server: FaceServer, telegraf: Telegraf) -> None:
    server.port.tokens = {}
    telegraf.flush(rounds=3)
    assert (telegraf.dropped, len(telegraf.buffer)) == ([], 1000)
    server.port.tokens = {"t1": PLANT}  # the operator has added it
    telegraf.flush()
    assert (arrived(server), telegraf.dropped) == (ALL, [])


def test_nothing_is_lost_while_credentials_cannot_be_looked_up(
    server: FaceServer, telegraf: Telegraf
) -> None:
    server.port.trouble = TROUBLES["store"]
    telegraf.flush(rounds=3)
    server.port.trouble = None
    telegraf.flush()
    assert (arrived(server), telegraf.dropped) == (ALL, [])


def test_v2_splits_what_is_too_large(server: FaceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InfluxFace, "largest", 2000)
    telegraf = TelegrafV2(server.url, "t1")
    telegraf.gather(*(f"vib,host=A rms={number} {number}000000" for number in range(1000)))
    telegraf.flush()
    assert (arrived(server), telegraf.dropped, len(telegraf.buffer)) == (ALL, [], 0)


def test_v1_drops_what_is_too_large_and_goes_on(
    server: FaceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be sent again without end: 413 is the lesser evil, and documented."""
    monkeypatch.setattr(InfluxFace, "largest", 2000)
    telegraf = TelegrafV1(server.url, "t1", batch=500)
    telegraf.gather(*(f"vib,host=A rms={number} {number}000000" for number in range(510)))
    telegraf.flush()
    assert (len(telegraf.dropped), arrived(server)) == (500, ALL[500:510])


@pytest.mark.parametrize(
    "bad", ["nonsense", "vib,host=A rms=nan", "database not found", 'vib,host=A text="open']
)
def test_bad_lines_cost_themselves_only_and_are_never_sent_again(
    server: FaceServer, telegraf: Telegraf, bad: str
) -> None:
    telegraf.buffer.insert(550, bad)
    telegraf.flush()
    assert (arrived(server), len(telegraf.buffer), telegraf.requests) == (ALL, 0, 11)


def test_a_batch_with_nothing_good_is_quarantined_and_never_sent_again(
    server: FaceServer, telegraf: Telegraf
) -> None:
    telegraf.buffer.clear()
    telegraf.gather("database not found", "nonsense")
    telegraf.flush()
    assert (len(telegraf.buffer), telegraf.requests) == (0, 1)
    assert [one.body for one, _ in server.port.quarantined] == [b"database not found\nnonsense\n"]


def test_without_a_server_everything_stays(server: FaceServer, telegraf: Telegraf) -> None:
    telegraf.url = "http://127.0.0.1:9"
    if isinstance(telegraf, TelegrafV1):
        telegraf.database_made = True
    telegraf.flush(rounds=2)
    assert (telegraf.dropped, len(telegraf.buffer)) == ([], 1000)
