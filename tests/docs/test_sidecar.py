"""The page about moving off a sidecar: its application takes who comes directly and who comes by the gateway."""

import re
from pathlib import Path
from typing import Any

import anyio

from authsec_sdk.spiffe import SpiffeID

PAGE = Path(__file__).resolve().parents[2] / "docs/migrate/sidecar.md"
DIGEST = "ab" * 32


def asked(app: Any, peer: str, header: str | None) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
    scope["extensions"] = {"spiffe": {"peer": SpiffeID.parse(f"spiffe://example.org/{peer}")}}
    if header is not None:
        scope["headers"] = [(b"x-forwarded-client-cert", header.encode())]
    anyio.run(app, scope, None, send)
    return sent[0]["status"], sent[-1].get("body", b"")


def said(client: str) -> str:
    return f"By=spiffe://example.org/payments;Hash={DIGEST};URI=spiffe://example.org/{client}"


def test_both_ways_lead_to_the_application() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    app = names["app"]
    hello = (200, b"hello spiffe://example.org/frontend")
    assert asked(app, "frontend", None) == hello
    assert asked(app, "gateway", said("frontend")) == hello
    assert asked(app, "frontend", said("billing")) == hello, "a client's word about itself is not read"
    assert asked(app, "intruder", None)[0] == 403
    assert asked(app, "gateway", said("intruder")) == (403, b"")
    assert asked(app, "gateway", None) == (403, b""), "the gateway speaks for nobody"
