"""What a server hands out: certificate chains without keys, which never leave the node, and tokens."""

from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A JWT-SVID or WIT-SVID that the server signed for `id`; the times are Unix seconds. The token is a credential.

    Not checked: that the token says the same.
    """

    id: SpiffeID
    token: str = field(repr=False)
    issued_at: int
    expires_at: int
    hint: str = ""

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an issued token is a credential and is not pickled")
