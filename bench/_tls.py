"""Two workloads for the TLS benchmarks: our contexts, and the standard library's with the same identity and trust."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from authsec_sdk.authz import authorize_id
from authsec_sdk.spiffe import X509SVID, BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context

SERVER, CLIENT = "spiffe://bench.test/server", "spiffe://bench.test/client"


class Workloads:
    """A CA, a server and a client with a source each."""

    def __init__(self) -> None:
        self.ca = TestCA("bench.test")
        self.server_source = X509ContextHolder(self.snapshot(SERVER))
        self.client_source = X509ContextHolder(self.snapshot(CLIENT))

    def snapshot(self, spiffe_id: str) -> X509Context:
        """A new SVID with the bundle as it is now."""
        return X509Context((self.ca.svid(spiffe_id),), BundleSet.of(self.ca.bundle()))

    def ours(self) -> tuple[SpiffeSSLContext, SpiffeSSLContext]:
        """Our contexts, server and client, with the policy users have: one ID each."""
        return (
            mtls_server_context(self.server_source, authorize_id(CLIENT)),
            mtls_client_context(self.client_source, authorize_id(SERVER)),
        )

    def stdlib(self, *, kind: type[ssl.SSLContext] = ssl.SSLContext) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """The standard library's, from files: TLS 1.3, mutual, no tickets, and whoever the CA signed is accepted."""
        contexts = []
        for source, protocol in (
            (self.server_source, ssl.PROTOCOL_TLS_SERVER),
            (self.client_source, ssl.PROTOCOL_TLS_CLIENT),
        ):
            context = kind(protocol)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.options |= ssl.OP_NO_TICKET
            _load(context, source.x509_context.svid)
            context.load_verify_locations(cadata=self.ca.bundle().to_pem().decode())
            contexts.append(context)
        contexts[0].num_tickets = 0
        return contexts[0], contexts[1]


def _load(context: ssl.SSLContext, svid: X509SVID) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "svid.pem"
        file.write_bytes(key + b"".join(cert.public_bytes(Encoding.PEM) for cert in svid.certificates))
        context.load_cert_chain(file)
