"""The testing kit: real little servers that play a vendor and misbehave on request.

How to test a connector with it: docs/testing-kit.md.

class FakeShop(FakeServer):
    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.orders: dict[str, Any] = {}
        self.route("PUT", "/orders/{number}", self.put)

    def put(self, request: Request) -> Response:
        self.orders[request.params["number"]] = request.json()
        return Response(json={"code": 0})

with FakeShop() as shop:
    shop.misbehave(Fault.LOST_ANSWER, "/orders/{number}")  # done, but nobody hears of it
    shop.misbehave(Fault.STATUS, after=3, times=2, status=503)
    shop.alter("/orders/{number}", lambda body, request: {**body, "code": 429})

with FaultProxy("http://127.0.0.1:8080") as proxy:  # the same before any server
    proxy.misbehave(Fault.RESET, "/orders/*", method="PUT", chance=0.1, times=None)
"""

from hub.sdk.testing.clock import FakeClock
from hub.sdk.testing.faults import Fault
from hub.sdk.testing.messages import Request, Response
from hub.sdk.testing.relay import FaultProxy
from hub.sdk.testing.server import FakeServer
from hub.sdk.testing.standalone import serve

__all__ = ["FakeClock", "FakeServer", "Fault", "FaultProxy", "Request", "Response", "serve"]
