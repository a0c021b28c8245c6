"""Influx client libraries, unchanged: every way to show credentials, zipped or not, and trouble.

That all of it can be queried from a served hub: `test_influx_served.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.iot.decoders import DECODERS
from connectors.iot.influx import InfluxFace
from hub.sdk.telemetry import Sender
from hub.sdk.testing.telemetry import MemoryPort
from tests.real_clients.environment import client_environment, run_client
from tests.real_clients.harness import FaceServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

V1 = (
    "influxdb==5.3.2",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "idna==3.20",
    "msgpack==1.2.4",
    "python-dateutil==2.9.0.post0",
    "pytz==2026.6",
    "requests==2.34.2",
    "six==1.17.0",
    "urllib3==2.8.0",
)
V2 = (
    "influxdb-client==1.50.0",
    "certifi==2026.10.19.post1",
    "python-dateutil==2.9.0.post0",
    "reactivex==6.1.0",
    "six==1.17.0",
    "typing-extensions==4.16.0",
    "urllib3==2.8.0",
)
V3 = (
    "influxdb3-python==0.21.0",
    "certifi==2026.10.19.post1",
    "pyarrow==26.0.1",
    "python-dateutil==2.9.0.post0",
    "reactivex==6.1.0",
    "six==1.17.0",
    "typing-extensions==4.16.0",
    "urllib3==2.8.0",
)

Reading = tuple[str, str, int, float | str]


@pytest.fixture
def server() -> Iterator[FaceServer]:
    port = MemoryPort()
    port.tokens = {"t1": Sender("iot", "plant", gateway=True)}
    port.passwords = {"ada:secret": Sender("iot", "plant", gateway=True)}
    with FaceServer(port, InfluxFace(port)) as running:
        yield running


def readings(server: FaceServer) -> list[Reading]:
    """What the hub would store of all that was kept; nothing may be refused."""
    found: list[Reading] = []
    for message in server.port.kept:
        decoded = DECODERS[message.format](message.body, message.details, message.received_at)
        assert decoded.refused == []
        found += [tuple(one) for one in [*decoded.samples, *decoded.texts]]
    return sorted(found, key=str)


EXPECTED: list[Reading] = [
    ("A 1,=", "m_b", 1_795_329_338_228, "true"),
    ("A 1,=", "m_b", 1_795_329_338_228, 1.0),
    ("A 1,=", "m_f", 1_795_329_338_228, 1.5),
    ("A 1,=", "m_i", 1_795_329_338_228, 7.0),
    ("A 1,=", "m_s", 1_795_329_338_228, 'say "hi" \\ 温度'),
]

V1_SCRIPT = r"""
import sys
from influxdb import InfluxDBClient
host, port, user, password, zipped = sys.argv[1:]
client = InfluxDBClient(host, int(port), user, password, "plant", gzip=zipped == "gzip")
assert client.ping() == "1.8.10", client.ping()
client.create_database("plant")
assert client.get_list_database() == []
point = {"measurement": "m", "tags": {"sn": "A 1,=", "site": "x"}, "time": 1795329338228,
         "fields": {"f": 1.5, "i": 7, "b": True, "s": 'say "hi" \\ 温度'}}
print(client.write_points([point], time_precision="ms"))
"""


@pytest.mark.parametrize(("user", "password"), [("ada", "secret"), ("anyone", "t1")])
@pytest.mark.parametrize("zipped", ["gzip", "plain"])
def test_influxdb_v1(server: FaceServer, user: str, password: str, zipped: str) -> None:
    python = client_environment("influxdb", *V1)
    assert _run(python, V1_SCRIPT, server, user, password, zipped) == "True"
    assert readings(server) == EXPECTED


V1_TROUBLE = r"""
import sys
from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError, InfluxDBServerError
host, port, user, password = sys.argv[1:]
client = InfluxDBClient(host, int(port), user, password, "plant", retries=1)
try:
    client.write(["m,sn=A f=1", "nonsense"], params={"db": "plant"}, protocol="line")
except (InfluxDBClientError, InfluxDBServerError) as error:
    print(type(error).__name__, getattr(error, "code", ""), error)
"""


def test_influxdb_v1_hears_of_bad_lines_and_of_wrong_passwords(server: FaceServer) -> None:
    python = client_environment("influxdb", *V1)
    told = _run(python, V1_TROUBLE, server, "ada", "secret")
    assert told.startswith("InfluxDBClientError 400")
    assert "partial write" in told
    assert len(server.port.kept) == 1
    assert _run(python, V1_TROUBLE, server, "ada", "wrong").startswith("InfluxDBServerError")


V2_SCRIPT = r"""
import sys
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
host, port, token, zipped = sys.argv[1:]
url, zipping = f"http://{host}:{port}", zipped == "gzip"
with InfluxDBClient(url, token=token, org="o", enable_gzip=zipping) as client:
    assert client.ping() and client.version() == "1.8.10"
    assert client.health().status == "pass"
    with client.write_api(write_options=SYNCHRONOUS) as api:
        point = (Point("m").tag("sn", "A 1,=").tag("site", "x").field("f", 1.5).field("i", 7)
            .field("b", True).field("s", 'say "hi" \\ 温度')
            .time(1795329338228, WritePrecision.MS))
        api.write("b", record=point, write_precision=WritePrecision.MS)
print("done")
"""


@pytest.mark.parametrize("token", ["t1", "ada:secret"])
@pytest.mark.parametrize("zipped", ["gzip", "plain"])
def test_influxdb_client_v2(server: FaceServer, token: str, zipped: str) -> None:
    python = client_environment("influxdb-client", *V2)
    assert _run(python, V2_SCRIPT, server, token, zipped) == "done"
    assert readings(server) == EXPECTED


V2_TROUBLE = r"""
import sys
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
host, port, token = sys.argv[1:]
with InfluxDBClient(f"http://{host}:{port}", token=token, org="o") as client:
    try:
        client.write_api(write_options=SYNCHRONOUS).write("b", record="m,sn=A f=1\nnonsense")
    except ApiException as error:
        print(error.status, error.message)
"""


def test_influxdb_client_v2_hears_of_bad_lines_and_of_wrong_tokens(server: FaceServer) -> None:
    python = client_environment("influxdb-client", *V2)
    told = _run(python, V2_TROUBLE, server, "t1")
    assert told.startswith("400 partial write: line 2")
    assert _run(python, V2_TROUBLE, server, "nobody").startswith("401")


def _run(python: Path, script: str, server: FaceServer, *arguments: str) -> str:
    host, port = server.url.removeprefix("http://").split(":")
    return run_client(python, script, host, port, *arguments).strip()
