"""What a server hands out: a certificate chain for an ID, without the key, which never leaves the node."""

from dataclasses import dataclass

from cryptography import x509

from authsec_sdk.spiffe import SpiffeID


@dataclass(frozen=True, slots=True)
class IssuedX509SVID:
    """A chain, leaf first, that the server signed for `id`.

    Not checked: that the leaf carries the ID and leads to a trust anchor; joined with its key as an `X509SVID` it is.
    """

    id: SpiffeID
    certificates: tuple[x509.Certificate, ...]
    expires_at: int
    hint: str = ""
