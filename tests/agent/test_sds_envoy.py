"""A real Envoy and a scripted server: federated trust domains, and plain authorities where no validator is wanted.

Everything else that Envoy does with an agent is in tests/interop/matrix/test_envoy.py, against upstream's agent too.
"""

import asyncio
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from icp_agent.domain.secrets import SecretSettings
from tests.envoy import cluster, envoy, http_listener, unused_port

pytestmark = pytest.mark.anyio

AGENT = {
    "api_type": "GRPC",
    "transport_api_version": "V3",
    "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
}
SDS = {"resource_api_version": "V3", "api_config_source": AGENT}
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
REFUSED = (httpx.HTTPError, ssl.SSLError, OSError)


class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def application() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@asynccontextmanager
async def fronted(agent, folder, validation: str):
    """Run Envoy in front of an application, with its certificate and the authorities under a name from the agent."""
    common = {
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SDS}],
        "validation_context_sds_secret_config": {"name": validation, "sds_config": SDS},
    }
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": common,
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    pipe = {"endpoint": {"address": {"pipe": {"path": str(agent.config.socket_path)}}}}
    source = {
        "name": "agent",
        "typed_extension_protocol_options": HTTP2,
        "load_assignment": {"cluster_name": "agent", "endpoints": [{"lb_endpoints": [pipe]}]},
    }
    port = unused_port()
    with application() as backend:
        resources = {
            "listeners": [http_listener(port, "application", socket)],
            "clusters": [cluster("application", backend), source],
        }
        config = {"node": {"id": "x", "cluster": "x"}, "static_resources": resources}
        running = envoy(config, folder)
        await asyncio.to_thread(running.__enter__)  # the agent it waits for is in this thread
        try:
            yield port
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


async def calls(port: int, server, ca: TestCA, path: str) -> int:
    context = X509Context((ca.svid(path),), BundleSet.of(server.ca.bundle()))

    def get() -> int:
        with mtls_client(X509ContextHolder(context), authorize_id("spiffe://example.org/web")) as client:
            return client.get(f"https://127.0.0.1:{port}/").status_code

    return await asyncio.to_thread(get)


async def test_federated_trust_domains_are_kept_apart(server, start_agent, entry, folder):
    partner = TestCA("partner.org")
    server.federated["partner.org"] = partner.bundle()
    server.entries = {"a": entry("a", federates_with=["partner.org"])}
    agent = await start_agent()
    async with fronted(agent, folder, "ALL") as port:
        assert await calls(port, server, partner, "/caller") == 200
        assert await calls(port, server, server.ca, "/caller") == 200
        for ca, path in ((partner, "spiffe://example.org/web"), (TestCA("third.org"), "/caller")):
            with pytest.raises(REFUSED):
                await calls(port, server, ca, path)


async def test_plain_authorities_where_no_validator_is_wanted(server, start_agent, entry, folder):
    server.entries = {"a": entry("a")}
    agent = await start_agent(sds=SecretSettings(disable_spiffe_cert_validation=True))
    async with fronted(agent, folder, "ROOTCA") as port:
        assert await calls(port, server, server.ca, "/caller") == 200
        # What the operator asked for: whatever these authorities sign, for whichever trust domain.
        assert await calls(port, server, server.ca, "spiffe://partner.org/caller") == 200
        with pytest.raises(REFUSED):
            await calls(port, server, TestCA("third.org"), "/caller")
