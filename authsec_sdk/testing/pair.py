"""Two workloads of one trust domain, a client and a server, each with a source in memory that a test rotates."""

import ssl
from typing import Any

from authsec_sdk.authz import Authorizer, authorize_id
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing.ca import TestCA
from authsec_sdk.testing.handshake import Pipe, shake
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context

__all__ = ["MTLSPair", "snapshot"]


def snapshot(svid: X509SVID | None, *authorities: TestCA | X509Bundle) -> X509Context:
    """Return the context of a workload with this SVID, or none, which trusts these authorities."""
    bundles = (each.bundle() if isinstance(each, TestCA) else each for each in authorities)
    return X509Context((svid,) if svid is not None else (), BundleSet.of(*bundles))


class MTLSPair:
    """A client and a server that trust each other::

        pair = MTLSPair(TestCA("example.org"))
        assert str(pair.handshake().server.peer_spiffe_id) == "spiffe://example.org/client"
        pair.rotate(root=True)

    `client_context` and `server_context` are for the stack under test, `client_source` and `server_source` for
    contexts of your own; `handshake` tries what you have against the other side of the pair, in memory.
    """

    def __init__(self, ca: TestCA, *, client: str = "/client", server: str = "/server") -> None:
        self.ca = ca
        self.client_id: SpiffeID = ca.id(client)
        self.server_id: SpiffeID = ca.id(server)
        self.client_source = X509ContextHolder(snapshot(ca.svid(self.client_id), ca))
        self.server_source = X509ContextHolder(snapshot(ca.svid(self.server_id), ca))
        self.client_context: SpiffeSSLContext = self.client()
        self.server_context: SpiffeSSLContext = self.server()

    def client(self, authorizer: Authorizer | None = None, **options: Any) -> SpiffeSSLContext:
        """Return a context of the client; by default it accepts the server and nobody else."""
        return mtls_client_context(self.client_source, authorizer or authorize_id(self.server_id), **options)

    def server(self, authorizer: Authorizer | None = None, **options: Any) -> SpiffeSSLContext:
        """Return a context of the server; by default it accepts the client and nobody else."""
        return mtls_server_context(self.server_source, authorizer or authorize_id(self.client_id), **options)

    def handshake(self, *, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None) -> Pipe:
        """Shake hands in memory, one side replaced where a test gives one.

        Raises:
            ssl.SSLError: what the client met, or else the server; `shake` raises nothing.
        """
        return shake(server or self.server_context, client or self.client_context).check()

    def publish(self, *authorities: TestCA | X509Bundle) -> None:
        """Give both new SVIDs of the CA, and exactly these authorities to trust."""
        self.server_source.publish(snapshot(self.ca.svid(self.server_id), *authorities))
        self.client_source.publish(snapshot(self.ca.svid(self.client_id), *authorities))

    def rotate(self, *, root: bool = False, remove_old_roots: bool = False) -> None:
        """Give both new SVIDs; with `root` of a new root, with `remove_old_roots` nothing older is trusted.

        Contexts made before follow with their next connection.
        """
        if root:
            self.ca.rotate()
        if remove_old_roots:
            self.ca.remove_old_roots()
        self.publish(self.ca)

    def close(self) -> None:
        """Close both sources: contexts of them accept no more connections."""
        self.client_source.close()
        self.server_source.close()
