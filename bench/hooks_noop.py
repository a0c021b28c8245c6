"""The endpoint `bench hooks` compares with: reads the body, answers 200, keeps nothing."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.server import listen, server_config


async def receive(request: Request) -> Response:
    """Nothing but HTTP."""
    await request.body()
    return Response()


def main() -> None:
    app = Starlette(routes=[Route("/hooks/shop", receive, methods=["POST"])])
    listener = listen("127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(server_config(app)).run(sockets=[listener])


if __name__ == "__main__":
    main()
