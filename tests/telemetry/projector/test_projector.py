"""Messages become readings, once, and everyone can see what came of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hub.sdk.telemetry import Message, Refused, Sender
from hub.sdk.telemetry_source import Broker, ClockPolicy, DeviceClass, TelemetrySource
from hub.store.tables.telemetry import device
from hub.store.telemetry.positions import position, touch_registry
from hub.telemetry.port import refusal_details
from tests.telemetry.projector.plant import NOW, PlainWriter, Plant

T = NOW - 1000


def test_readings_are_stored_under_their_device_and_metric(solo: Plant) -> None:
    solo.send(samples=[["", "rpm", T, 1500.0], ["", "temp", T, 20.5]])
    assert solo.run(solo.projector())[:2] == (1, 2)
    assert solo.points("D1", "rpm") == {T: 1500.0}
    assert solo.points("D1", "temp") == {T: 20.5}


def test_a_message_is_projected_once(plant: Plant) -> None:
    plant.send(samples=[["", "rpm", T, 1.0]])
    plant.run(plant.projector())
    assert plant.run(plant.projector())[0] == 0
    assert plant.device("D1").duplicates == 0


def test_devices_of_two_gateways_may_share_a_name(plant: Plant) -> None:
    for gateway in ("G1", "G2"):
        plant.send(sender=gateway, gateway=True, samples=[["pump", "rpm", T, 1.0]])
    plant.run(plant.projector())
    assert plant.points("pump", "rpm", "G1") == plant.points("pump", "rpm", "G2") == {T: 1.0}


def test_a_gateways_own_readings_are_its_own(solo: Plant) -> None:
    solo.send(sender="G1", gateway=True, samples=[["", "errors", T, 3.0], ["G1", "up", T, 1.0]])
    solo.run(solo.projector())
    assert solo.points("G1", "errors") == {T: 3.0}
    assert solo.points("G1", "up") == {T: 1.0}


def test_a_device_does_not_speak_for_others(solo: Plant) -> None:
    solo.send(samples=[["D2", "rpm", T, 1.0], ["D1", "rpm", T, 2.0]])
    solo.run(solo.projector())
    assert solo.device("D2") is None
    assert solo.points("D1", "rpm") == {T: 2.0}
    assert [row.code for row in solo.quarantined()] == ["unknown_device"]


def test_duplicates_restated_and_late_readings_are_counted(plant: Plant) -> None:
    old = T - 400_000
    plant.send(samples=[["", "rpm", T, 1.0], ["", "rpm", old, 5.0]])
    projector = plant.projector()
    plant.run(projector)
    asked = plant.send(
        counted=True,
        samples=[["", "rpm", T, 1.0], ["", "rpm", old, 6.0], ["", "rpm", T + 1, 7.0]],
        refused=[[3, "invalid", "NaN"]],
    )
    plant.run(projector)
    seen = plant.device("D1")
    assert (seen.readings, seen.late, seen.duplicates, seen.restated) == (4, 2, 1, 1)
    assert seen.quarantined == 1
    assert (seen.seen_at, seen.latest_ts) == (NOW, T + 1)
    outcome = plant.outcome(asked)
    assert outcome is not None
    assert outcome[2:6] == (2, 1, 1, 1)
    assert plant.points("D1", "rpm") == {old: 6.0, T: 1.0, T + 1: 7.0}


def test_a_boolean_is_one_reading_to_who_asks_and_of_its_device(solo: Plant) -> None:
    solo.send(sender="D2", texts=[["", "mode", T, "true"]], samples=[["", "rpm", T, 1.0]])
    asked = solo.send(
        counted=True,
        samples=[["", "on", T, 1.0]],
        texts=[["", "on", T, "true"], ["", "mode", T, "auto"]],
    )
    solo.run(solo.projector())
    outcome = solo.outcome(asked)
    assert outcome is not None
    assert outcome.accepted == 2
    assert [solo.device(name).readings for name in ("D1", "D2")] == [2, 2]
    assert solo.device("D1").restated == 0


def test_only_messages_that_asked_have_outcomes(solo: Plant) -> None:
    place = solo.send(samples=[["", "rpm", T, 1.0]])
    solo.run(solo.projector())
    assert solo.outcome(place) is None


def test_texts_are_kept_apart(plant: Plant) -> None:
    plant.send(texts=[["", "mode", T, "auto\0"], ["", "mode", T + 1, "手动"]])
    plant.run(plant.projector())
    assert plant.points("D1", "mode") == {T: "auto", T + 1: "手动"}


def test_the_newest_reading_of_a_series_is_known(solo: Plant) -> None:
    solo.send(samples=[["", "rpm", T, 2.0], ["", "rpm", T - 5, 1.0]])
    solo.run(solo.projector())
    solo.send(samples=[["", "rpm", T - 9, 9.0]])
    solo.run(solo.projector())
    newest = solo.series("D1", "rpm")
    assert (newest.last_ts, newest.last_value, newest.last_known) == (T, 2.0, 0)


def test_a_value_of_unknown_time_is_no_reading(plant: Plant) -> None:
    plant.send(last_known=[["", "rpm", 0, 7.0]])
    plant.run(plant.projector())
    known = plant.series("D1", "rpm")
    assert (known.last_ts, known.last_value, known.last_known) == (None, 7.0, 1)
    assert plant.points("D1", "rpm") == {}
    assert plant.device("D1").seen_at is None


def test_a_retained_message_is_no_sign_of_life(solo: Plant) -> None:
    told = {"samples": [["", "rpm", T, 7.0]], "states": [["", "online", T]]}
    solo.send(**told, refused=[[0, "invalid"]], details='{"retained": "1"}')
    solo.run(solo.projector())
    assert solo.points("D1", "rpm") == {T: 7.0}
    seen = solo.device("D1")
    assert (seen.seen_at, seen.latest_ts, seen.skew_ms) == (None, T, None)
    assert (seen.readings, seen.quarantined) == (1, 1)
    assert solo.series("D1", "rpm").last_received_at == T
    solo.send(samples=[["", "rpm", T + 1, 7.0]])
    solo.run(solo.projector())
    assert solo.device("D1").seen_at == solo.now


def test_changed_hours_are_logged_with_the_position(plant: Plant) -> None:
    part, seq = plant.send(samples=[["", "rpm", T, 2.0], ["", "rpm", T - 7_200_000, 1.0]])
    plant.run(plant.projector())
    (change,) = plant.changes()
    number = plant.series("D1", "rpm").series_id
    hour = T - T % 3_600_000
    assert change.tick == 1
    assert change.hours.tolist() == [[number, hour - 7_200_000], [number, hour]]
    assert change.hours.dtype == np.int64
    with plant.store.reading() as connection:
        assert position(connection, f"part:{part}") == seq


# --- clocks -----------------------------------------------------------------------------------


def test_clocks_that_cannot_be_believed_are_quarantined(plant: Plant) -> None:
    ahead, unset = NOW + 300_001, 1000
    plant.send(samples=[["", "a", ahead, 1.0], ["", "a", unset, 2.0], ["", "b", ahead - 1, 3.0]])
    plant.run(plant.projector())
    rows = {row.code: row for row in plant.quarantined()}
    assert set(rows) == {"future", "clock_unset"}
    assert json.loads(rows["future"].sample) == [["a", ahead, 1.0]]
    assert rows["future"].device == "D1"
    assert plant.points("D1", "b") == {ahead - 1: 3.0}
    assert plant.device("D1").quarantined == 2


def test_a_source_may_store_the_future_under_its_receipt(solo: Plant) -> None:
    policy = ClockPolicy(future=60, future_policy="receive_time")
    solo.send(samples=[["", "a", NOW + 60_001, 1.0]])
    solo.run(solo.projector(TelemetrySource(clock=policy)))
    assert solo.points("D1", "a") == {NOW: 1.0}


@pytest.mark.parametrize("ts", [2**63, -(2**63) - 1, 10**30])
def test_times_beyond_64_bits_stop_nothing(solo: Plant, ts: int) -> None:
    solo.send(samples=[["", "a", ts, 1.0], ["", "a", T, 2.0]])
    solo.run(solo.projector())
    assert solo.points("D1", "a") == {T: 2.0}
    assert [row.code for row in solo.quarantined()] == ["future" if ts > 0 else "clock_unset"]


def test_the_deviation_of_a_clock_is_estimated(plant: Plant) -> None:
    projector = plant.projector()
    for number in range(12):
        plant.now = NOW + number * 60_000
        delay = 0 if number % 3 else 500_000  # now and then a backlog
        plant.send(samples=[["", "a", plant.now + 90_000 - delay, float(number)]])
        plant.run(projector)
    assert abs(plant.device("D1").skew_ms - 90_000) < 60_000


def test_numbers_that_are_none_are_refused(solo: Plant) -> None:
    solo.send(b'{"samples": [["", "a", %d, NaN], ["", "a", %d, 1.0]]}' % (T, T + 1))
    solo.run(solo.projector())
    assert [row.code for row in solo.quarantined()] == ["invalid"]
    assert solo.points("D1", "a") == {T + 1: 1.0}


# --- devices ----------------------------------------------------------------------------------


def test_a_device_that_only_a_topic_of_a_broker_names_is_unknown(solo: Plant) -> None:
    broker = Broker(connection="plant", client_id="hub")
    reject = TelemetrySource(source="closed", unknown_devices="reject", broker=broker)
    approve = TelemetrySource(source="careful", unknown_devices="approve", broker=broker)
    for source in ("closed", "careful"):
        solo.send(sender=source, source=source, samples=[["", "a", T, 1.0]])
    solo.run(solo.projector(reject, approve))
    assert solo.device("closed") is None
    assert solo.device("careful").state == "waiting"
    assert [row.code for row in solo.quarantined()] == ["unknown_device"]


def test_unknown_devices_wait_or_are_refused_as_the_source_says(plant: Plant) -> None:
    approve = TelemetrySource(source="careful", unknown_devices="approve")
    reject = TelemetrySource(source="closed", unknown_devices="reject")
    for source in ("careful", "closed"):
        sample = [["new", "a", T, 1.0]]
        plant.send(sender=source.upper(), gateway=True, source=source, samples=sample)
    plant.run(plant.projector(approve, reject))
    assert plant.device("new", "CAREFUL").state == "waiting"
    assert plant.points("new", "a", "CAREFUL") == {T: 1.0}
    assert plant.device("new", "CLOSED") is None
    (row,) = plant.quarantined()
    assert (row.code, row.device, row.metric) == ("unknown_device", "new", "a")


def test_an_operators_decision_holds_from_the_next_message(plant: Plant) -> None:
    projector = plant.projector()
    plant.send(samples=[["", "a", T, 1.0]])
    plant.run(projector)
    for state, ts in (("refused", T + 1), ("active", T + 2)):
        with plant.store.transaction() as connection:
            connection.execute(device.update().values(state=state))
            touch_registry(connection)
        plant.send(samples=[["", "a", ts, 1.0]])
        plant.run(projector)
    assert plant.points("D1", "a") == {T: 1.0, T + 2: 1.0}
    assert plant.device("D1").quarantined == 1


def test_a_deleted_device_is_made_anew(solo: Plant) -> None:
    projector = solo.projector()
    solo.send(samples=[["", "a", T, 1.0]])
    solo.run(projector)
    with solo.store.transaction() as connection:
        connection.execute(device.delete())
        touch_registry(connection)
    solo.send(samples=[["", "a", T + 1, 1.0]])
    solo.run(projector)
    assert solo.device("D1").readings == 1


@pytest.mark.parametrize("name", ["x" * 256, "a\nb", " a", "\ud800"])
def test_names_nobody_could_read_are_refused(solo: Plant, name: str) -> None:
    solo.send(
        sender="G",
        gateway=True,
        samples=[[name, "a", T, 1.0], ["ok", name, T, 1.0], ["ok", "a", T, 2.0]],
    )
    solo.run(solo.projector())
    assert {row.code for row in solo.quarantined()} == {"name"}
    assert solo.points("ok", "a", "G") == {T: 2.0}


def test_classes_come_from_the_gateway_or_from_the_name(plant: Plant) -> None:
    classes = [DeviceClass.model_validate({"match": "P-*", "class": "pump"})]
    source = TelemetrySource(classes=classes, zone="Asia/Shanghai", units={"a": "mm/s"})
    projector = plant.projector(source)
    samples = [[name, "a", T, 1.0] for name in ("P-1", "P-2", "other")]
    plant.send(sender="G", gateway=True, samples=samples, kinds={"P-2": "fan"})
    plant.run(projector)
    plant.send(sender="G", gateway=True, kinds={"other": "motor", "P-1": "fan"})
    plant.run(projector)
    kinds = {name: plant.device(name, "G").kind for name in ("P-1", "P-2", "other")}
    assert kinds == {"P-1": "pump", "P-2": "fan", "other": "motor"}
    assert plant.device("P-1", "G").zone == "Asia/Shanghai"
    assert plant.series("P-1", "a", "G").unit == "mm/s"


def test_attributes_add_up_and_states_follow_their_time(plant: Plant) -> None:
    projector = plant.projector()
    plant.send(attributes={"": {"sn": "1", "site": "宁波"}}, states=[["", "online", T]])
    plant.send(attributes={"": {"sn": "2"}}, states=[["", "offline", T - 5]])
    plant.run(projector)
    plant.send(attributes={"": {"fw": 3}}, states=[["", "stale", T - 1]])
    plant.run(projector)
    known = plant.device("D1")
    assert json.loads(known.client_attributes) == {"sn": "2", "site": "宁波", "fw": 3}
    assert (known.online, known.online_at) == ("online", T)


# --- poison -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("plain", b"explode"),
        ("plain", b"not json"),
        ("nobody.knows", b"{}"),
        ("plain", b'{"samples": [["", "a", "soon", 1.0]]}'),
        ("plain", b'{"samples": [["", "a", 1795629599000, {}]]}'),
        ("plain", b'{"samples": [["", ["a"], 1795629599000, 1.0]]}'),
        ("plain", b'{"texts": [["", "a", 1795629599000, 5]]}'),
        ("plain", b'{"states": [["", "online", "now"]]}'),
        ("plain", b'{"last_known": [["", "a", 0, "x"]]}'),
        ("plain", b'{"samples": [["", "a", 1795629599000, 666.0]]}'),
    ],
)
def test_poison_is_quarantined_and_stops_nothing(solo: Plant, format: str, body: bytes) -> None:
    good = [solo.send(samples=[["", "a", T + 10, 1.0]])]
    solo.send(body, format=format, counted=True)
    good += [solo.send(samples=[["", "a", T + 10 + n, float(n)]]) for n in range(1, 6)]
    assert solo.run(solo.projector())[0] == 7
    assert solo.points("D1", "a") == {T + 10: 1.0} | {T + 10 + n: float(n) for n in range(1, 6)}
    (row,) = solo.quarantined()
    assert (row.position, row.code, row.format) == (-1, "malformed", format)
    assert bytes(row.sample) == body


def test_what_a_face_refused_is_quarantined(solo: Plant) -> None:
    told = [Refused(-1, "malformed", "not JSON"), Refused(3, "invalid", "NaN", "", "rpm")]
    sent = Message(Sender("iot", "G"), "iot.readings", b"{", T)
    details = json.dumps(refusal_details(sent, told))
    solo.send(b"{", format="refused", details=details)
    solo.run(solo.projector())
    whole, part = solo.quarantined()
    assert (whole.code, whole.detail, bytes(whole.sample)) == ("malformed", "not JSON", b"{")
    assert (part.code, part.metric, part.format) == ("invalid", "rpm", "iot.readings")


def test_a_flood_of_refusals_is_cut_but_counted(solo: Plant) -> None:
    solo.send(refused=[[n, "invalid", "NaN", "", f"m{n}"] for n in range(500)])
    solo.run(solo.projector())
    rows = solo.quarantined()
    assert len(rows) == 100
    assert "400 parts more" in rows[-1].detail
    assert solo.device("D1").quarantined == 500


def test_a_clash_is_done_again(solo: Plant) -> None:
    solo.send(samples=[["", "a", T, 1.0]])
    solo.run(solo.projector(writer=PlainWriter(clashes=3)))
    assert solo.points("D1", "a") == {T: 1.0}
    assert solo.device("D1").readings == 1
