"""``authsec fetch bundles --url``: from a federation endpoint, and from nobody else who answers there."""

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.spiffe import (
    BundleSet,
    TrustBundle,
    X509Context,
    X509ContextHolder,
    format_bundle_document,
    parse_bundle_document,
)
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import tls_server_context


@pytest.fixture
def foreign() -> TestCA:
    return TestCA("b.test")


@pytest.fixture
def url(foreign: TestCA) -> Iterator[str]:
    """The bundle of b.test, served by spiffe://b.test/bundles (the profile https_spiffe)."""
    bundle = TrustBundle(foreign.trust_domain, foreign.bundle().authorities, {}, {}, 3, timedelta(minutes=5))
    document = format_bundle_document(bundle)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            return

    class Server(http.server.HTTPServer):
        def handle_error(self, *_: object) -> None:
            return

    source = X509ContextHolder(X509Context((foreign.svid("/bundles"),), BundleSet.of(foreign.bundle())))
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = tls_server_context(source).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        source.close()


def fetch(authsec: Any, url: str, proof: Path, endpoint_id: str, *more: object) -> Any:
    options = ["--endpoint-id", endpoint_id, "--endpoint-bundle", proof, "--output", "json"]
    with authsec("fetch", "bundles", "--url", url, "--trust-domain", "b.test", *options, *more) as running:
        code = running.wait()
    return code, json.loads(running.said()) if code == 0 else running.errors()


def test_fetch_from_an_endpoint(authsec: Any, url: str, foreign: TestCA, folder: Path) -> None:
    proof = folder / "first.pem"
    proof.write_bytes(foreign.bundle().to_pem())
    code, facts = fetch(authsec, url, proof, "spiffe://b.test/bundles", "--write", folder / "b.json")
    assert code == 0, facts
    [bundle] = facts["bundles"]
    assert (bundle["trust_domain"], bundle["sequence_number"], bundle["refresh_hint_seconds"]) == ("b.test", 3, 300)
    written = parse_bundle_document(foreign.trust_domain, (folder / "b.json").read_bytes())
    assert written.x509_authorities == (foreign.certificate,)
    assert fetch(authsec, url, proof, "spiffe://b.test/another", "--write", folder / "c.json")[0] in (1, 3)
    assert not (folder / "c.json").exists()
    proof.write_bytes(TestCA("b.test").bundle().to_pem())
    assert fetch(authsec, url, proof, "spiffe://b.test/bundles")[0] in (1, 3)


def test_nobody_answers(authsec: Any, foreign: TestCA, folder: Path) -> None:
    proof = folder / "first.pem"
    proof.write_bytes(foreign.bundle().to_pem())
    assert fetch(authsec, "https://127.0.0.1:1/", proof, "spiffe://b.test/bundles", "--timeout", "5")[0] == 3
