"""A signed X509-SVID as it leaves the CA: certificates only, no key (the key never came here)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from authsec_sdk.spiffe import SpiffeID


@dataclass(frozen=True, slots=True)
class IssuedSVID:
    """A leaf and the chain above it, root excluded, each as DER; ``expires_at`` in Unix seconds, serial as decimal."""

    spiffe_id: SpiffeID
    chain: tuple[bytes, ...]
    expires_at: int
    serial_number: str
    hint: str = ""

    @property
    def fingerprint(self) -> str:
        """The leaf's."""
        return fingerprint(self.chain[0])


def fingerprint(certificate: bytes) -> str:
    """SHA-256 over a certificate (DER), in hex: unlike a serial number, no other authority can give it to another."""
    return hashlib.sha256(certificate).hexdigest()


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """What to sign for a workload or an agent: everything but the key comes from the server, nothing from the CSR."""

    csr: bytes
    spiffe_id: SpiffeID
    ttl: int = 0
    """Seconds; 0 means the server's default. The result may end earlier: never after the CA itself."""
    dns_names: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NewX509SVID:
    """One item of a batch an agent asks for: its CSR for the entry with this id."""

    entry_id: str
    csr: bytes
