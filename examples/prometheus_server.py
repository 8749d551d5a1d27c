"""Serve mutual TLS with uvicorn, and metrics over HTTP: python prometheus_server.py PORT METRICS_PORT CALLER_ID."""

import sys

from prometheus_client import start_http_server

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import Receive, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.prometheus import PrometheusObserver
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
from authsec_sdk.workloadapi import X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"hello {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def main(port: int, metrics_port: int, caller: str) -> None:
    start_http_server(metrics_port, "127.0.0.1")
    with X509Source(observer=PrometheusObserver()) as source:
        config = MTLSConfig(app, source, authorize_id(caller), host="127.0.0.1", port=port, lifespan="off")
        MTLSServer(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
