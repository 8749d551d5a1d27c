"""Serve a WSGI application over mutual TLS with the standard library: python wsgi_server.py PORT TRUST_DOMAIN."""

import sys
from collections.abc import Iterable
from typing import Any

from authsec_sdk.authz import authorize_member_of, authorize_path
from authsec_sdk.integrations.wsgi import Route, RouteAuthorizationMiddleware, peer_spiffe_id
from authsec_sdk.integrations.wsgiref import make_server
from authsec_sdk.workloadapi import X509Source


def hello(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {peer_spiffe_id(environ)}\n".encode()]


def main(port: int, domain: str) -> None:
    members = authorize_member_of(domain)
    routes = [Route("/", members), Route("/admin/**", authorize_path(f"spiffe://{domain}/admin/*"))]
    app = RouteAuthorizationMiddleware(hello, routes)
    with X509Source() as source:
        source.wait(timeout=10)
        with make_server(app, source, members, port=port) as server:
            server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
