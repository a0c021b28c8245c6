"""Influx client libraries of all versions write to `hub serve`; the hub answers what they wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_clients.environment import client_environment, run_client
from tests.real_clients.served import now_ms, served_hub
from tests.real_clients.test_influx_clients import V1, V2, V3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

V1_SCRIPT = r"""
import sys
from influxdb import InfluxDBClient
host, port, token, now = sys.argv[1:]
client = InfluxDBClient(host, int(port), "anyone", token, "plant", gzip=True)
assert client.ping() == "1.8.10"
client.create_database("plant")
points = [{"measurement": "vib", "tags": {"sn": "A 1,="}, "time": int(now) - 1000 * number,
           "fields": {"rms": number / 4, "i": number, "b": True, "s": 'say "hi" \\ 温度'}}
          for number in range(200)]
assert client.write_points(points, time_precision="ms", batch_size=50)
"""
V2_SCRIPT = r"""
import sys
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
host, port, token, now = sys.argv[1:]
with InfluxDBClient(f"http://{host}:{port}", token=token, org="o", enable_gzip=True) as client:
    with client.write_api(write_options=WriteOptions(batch_size=50)) as api:
        for number in range(200):
            point = (Point("vib").tag("sn", "A 1,=").field("rms", number / 4).field("i", number)
                .field("b", True).field("s", 'say "hi" \\ 温度'))
            api.write("b", record=point.time(int(now) - 1000 * number, WritePrecision.MS),
                      write_precision=WritePrecision.MS)
"""
V3_SCRIPT = r"""
import sys
from influxdb_client_3 import InfluxDBClient3, Point, WritePrecision
host, port, token, now = sys.argv[1:]
with InfluxDBClient3(host=f"http://{host}:{port}", token=token, org="o", database="b") as client:
    points = [Point("vib").tag("sn", "A 1,=").field("rms", number / 4).field("i", number)
              .field("b", True).field("s", 'say "hi" \\ 温度')
              .time(int(now) - 1000 * number, WritePrecision.MS) for number in range(200)]
    client.write(record=points, write_precision="ms")
"""


@pytest.mark.parametrize(
    ("name", "pins", "script"),
    [
        pytest.param("influxdb", V1, V1_SCRIPT, id="v1"),
        pytest.param("influxdb-client", V2, V2_SCRIPT, id="v2"),
        pytest.param("influxdb3-python", V3, V3_SCRIPT, id="v3"),
    ],
)
def test_what_a_client_writes_is_answered_by_the_hub(
    tmp_path: Path, name: str, pins: tuple[str, ...], script: str
) -> None:
    python = client_environment(name, *pins)
    with served_hub(tmp_path / "hub") as hub:
        now = now_ms()
        host, port = hub.url.removeprefix("http://").split(":")
        run_client(python, script, host, port, hub.add("plant", "--gateway"), str(now))
        times = [now - 1000 * number for number in reversed(range(200))]
        numbers = list(reversed(range(200)))
        assert hub.settled("A 1,=", "vib_rms", 200) == list(
            zip(times, [one / 4 for one in numbers], strict=True)
        )
        assert hub.points("A 1,=", "vib_i") == list(zip(times, numbers, strict=True))
        assert hub.points("A 1,=", "vib_b") == [(ts, 1.0) for ts in times]
        assert hub.texts("A 1,=", "vib_s") == [(ts, 'say "hi" \\ 温度') for ts in times]
        assert hub.get("telemetry/quarantine")["items"] == []
