"""Who calls: what a connection proves about its peer, found out once for each connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from authsec_sdk.rpc import GRPCError, Peer, Status
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import peer_spiffe_id
from icp_server.domain.issued import fingerprint
from icp_server.grpc_api.local_peer import LocalPeer


@dataclass(frozen=True, slots=True)
class CallerCertificate:
    """What the handshake verified: an X509-SVID that leads to the current bundle. Its holder's rights are not in it."""

    spiffe_id: SpiffeID
    serial_number: str
    not_after: datetime
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Caller:
    """A peer of one of the listeners. What is absent was not proven."""

    host: str | None = None
    """Its IP address; None for a local caller."""
    port: int = 0
    certificate: CallerCertificate | None = None
    process: LocalPeer | None = None
    """Who the kernel says connected to the Unix socket; None for a TCP caller."""

    @property
    def is_local(self) -> bool:
        """Say whether the caller reached the admin Unix socket."""
        return self.process is not None

    @property
    def spiffe_id(self) -> SpiffeID | None:
        """The ID the caller proved to have."""
        return self.certificate.spiffe_id if self.certificate else None

    def fields(self) -> Mapping[str, object]:
        """Name the caller in the words of SPIRE's audit log."""
        if self.process is not None:
            named: dict[str, object] = {"caller_uid": self.process.uid, "caller_gid": self.process.gid}
            if path := self.process.path:
                named["caller_path"] = path
            return named
        host = self.host or ""
        named = {"caller_addr": f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"}
        if self.certificate is not None:
            named["caller_id"] = self.certificate.spiffe_id
        return named


@dataclass(slots=True)
class TCPConnection:
    """Attached to a TCP peer when it is accepted; remembers who it is after the first call."""

    host: str
    port: int
    caller: Caller | None = None

    @classmethod
    def of(cls, peer: Peer) -> TCPConnection:
        """Note where a freshly accepted connection comes from.

        Raises:
            OSError: it is gone already.
        """
        host, port = peer.socket.getpeername()[:2]
        return cls(host, port)

    def caller_at(self, peer: Peer) -> Caller:
        """Say who is at the other end; the handshake is over when a call arrives."""
        if self.caller is None:
            self.caller = Caller(host=self.host, port=self.port, certificate=_certificate(peer))
        return self.caller


def caller_of(peer: Peer) -> Caller:
    """Say who is at the other end.

    Raises:
        GRPCError: UNAUTHENTICATED, the certificate names nobody (the handshake should not have let it in).
    """
    match peer.attachment:
        case LocalPeer() as process:
            return Caller(process=process)
        case TCPConnection() as connection:
            return connection.caller_at(peer)
        case _:
            raise GRPCError(Status.INTERNAL, "no peer information available")


def _certificate(peer: Peer) -> CallerCertificate | None:
    if peer.ssl_object is None:
        return None
    der = peer.ssl_object.getpeercert(binary_form=True)
    if not der:
        return None
    spiffe_id = peer_spiffe_id(peer.ssl_object)
    if spiffe_id is None:
        raise GRPCError(Status.UNAUTHENTICATED, "client certificate has no SPIFFE ID")
    leaf = x509.load_der_x509_certificate(der)
    return CallerCertificate(spiffe_id, str(leaf.serial_number), leaf.not_valid_after_utc, fingerprint(der))
