"""Which side of a handshake a context plays: what it presents and what it asks of the peer."""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass

__all__ = [
    "BOOTSTRAP_CLIENT",
    "MTLS_CLIENT",
    "MTLS_SERVER",
    "MTLS_SERVER_REQUEST",
    "MTLS_WEB_CLIENT",
    "MTLS_WEB_SERVER",
    "TLS_CLIENT",
    "TLS_SERVER",
    "PeerCertificate",
    "Role",
]


class PeerCertificate(enum.Enum):
    """What is asked of the peer."""

    REQUIRED = "required"
    """No certificate, no connection."""
    REQUESTED = "requested"
    """None is fine and leaves the peer without an identity; one that is presented is checked as if required."""
    NOT_ASKED = "not asked"
    """The peer stays unknown."""
    UNVERIFIED = "unverified"
    """It must name an SVID's ID that the authorizer accepts, and nothing proves it: bootstrap without trust."""
    WEB = "web"
    """One of the web PKI, for the host name that was asked for; it names no SPIFFE ID that counts."""


_VERIFY_MODES = {
    PeerCertificate.REQUIRED: ssl.VerifyMode.CERT_REQUIRED,
    PeerCertificate.REQUESTED: ssl.VerifyMode.CERT_OPTIONAL,
    PeerCertificate.NOT_ASKED: ssl.VerifyMode.CERT_NONE,
    PeerCertificate.UNVERIFIED: ssl.VerifyMode.CERT_NONE,
    PeerCertificate.WEB: ssl.VerifyMode.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class Role:
    """One of the eight roles below."""

    server_side: bool
    presents_svid: bool
    peer: PeerCertificate

    @property
    def protocol(self) -> ssl._SSLMethod:
        """The `ssl` protocol constant for a context of this role."""
        return ssl.PROTOCOL_TLS_SERVER if self.server_side else ssl.PROTOCOL_TLS_CLIENT

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """The `ssl` verify mode for a context of this role."""
        return _VERIFY_MODES[self.peer]

    @property
    def verifies_chain(self) -> bool:
        """Whether OpenSSL verifies the peer's chain by the bundles of the source."""
        return self.peer in (PeerCertificate.REQUIRED, PeerCertificate.REQUESTED)

    @property
    def checks_hostname(self) -> bool:
        """Whether the peer is known by the host name that was asked for."""
        return self.peer is PeerCertificate.WEB

    def __str__(self) -> str:
        return "server" if self.server_side else "client"


MTLS_CLIENT = Role(server_side=False, presents_svid=True, peer=PeerCertificate.REQUIRED)
MTLS_SERVER = Role(server_side=True, presents_svid=True, peer=PeerCertificate.REQUIRED)
MTLS_SERVER_REQUEST = Role(server_side=True, presents_svid=True, peer=PeerCertificate.REQUESTED)
TLS_CLIENT = Role(server_side=False, presents_svid=False, peer=PeerCertificate.REQUIRED)
TLS_SERVER = Role(server_side=True, presents_svid=True, peer=PeerCertificate.NOT_ASKED)
MTLS_WEB_CLIENT = Role(server_side=False, presents_svid=True, peer=PeerCertificate.WEB)
MTLS_WEB_SERVER = Role(server_side=True, presents_svid=False, peer=PeerCertificate.REQUIRED)
BOOTSTRAP_CLIENT = Role(server_side=False, presents_svid=False, peer=PeerCertificate.UNVERIFIED)
