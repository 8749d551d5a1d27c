"""What ASGI servers are tried with: an application that says who called, and a client with new connections."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from integration_contract.pair import Exchange

from authsec_sdk.integrations.asgi import peer_spiffe_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.httpx import peer_spiffe_id as peer_of_response
from authsec_sdk.spiffe import SpiffeID


class Echo:
    """Answers with the caller's ID; knows how many requests reached it, and of which protocol and connection."""

    def __init__(self) -> None:
        self.port = 0
        self.hits = 0
        self.versions: set[str] = set()
        self.life: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                self.life.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.hits += 1
        self.versions.add(scope["http_version"])
        body = str(peer_spiffe_id(scope)).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def httpx_caller(
    port: int, source: Any, authorizer: Any, on_rejected: Any = None, **options: Any
) -> Iterator[Callable[[], Exchange]]:
    """Give what calls over a new connection each time."""

    def call() -> Exchange:
        with mtls_client(source, authorizer, on_rejected=on_rejected, timeout=10, **options) as client:
            response = client.get(f"https://127.0.0.1:{port}/")
            response.raise_for_status()
            return Exchange(peer_of_response(response), SpiffeID.parse(response.text))

    yield call
