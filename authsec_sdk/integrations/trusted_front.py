"""Whom a trusted front speaks for: a proxy that ends the client's TLS and is itself known by its SPIFFE ID.

`X-Forwarded-Client-Cert` is text that anybody can send. It is believed only when the connection it came over was
verified to be one of the fronts that are named, and then only the one element that this front wrote. Pure: the
middlewares of `asgi`, `wsgi`, `django` and `aiohttp` all ask :meth:`TrustedFronts.read` here, with the headers as they
came, before anything maps or joins them.
"""

import hashlib
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.errors import CallerError, InvalidSpiffeIDError, InvalidX509SVIDError
from authsec_sdk.integrations.xfcc import HEADER, InvalidForwardedHeaderError, XFCCElement, parse_xfcc
from authsec_sdk.spiffe import SpiffeID, x509_svid_id

__all__ = ["ForwardedPeer", "Front", "TrustedFronts", "is_forwarded_header", "without_forwarded"]

_Name = TypeVar("_Name", bytes, str)
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class ForwardedPeer:
    """A client of whom a trusted front says that it proved this ID *to the front*.

    Not a `SpiffeID`, so that it is never taken for the peer of the connection: whoever takes over the front can name
    anybody here.
    """

    spiffe_id: SpiffeID
    front: SpiffeID
    """Who says so: the verified peer of the connection."""
    digest: str
    """SHA-256 of the client's certificate, as the front says."""


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy that may speak for its clients, named by the SPIFFE ID that it proves to us.

    `terminates_as` is the ID in the certificate that it shows to *its* clients, and so what it writes as `By`. None
    means our own: the front ends TLS in our name, as a sidecar or a front with its own SVID for each service does.
    """

    spiffe_id: SpiffeID
    terminates_as: SpiffeID | None = None

    def __post_init__(self) -> None:
        """Take texts too, as settings hold them."""
        object.__setattr__(self, "spiffe_id", _spiffe_id(self.spiffe_id))
        if self.terminates_as is not None:
            object.__setattr__(self, "terminates_as", _spiffe_id(self.terminates_as))


class TrustedFronts:
    """The fronts that are believed, and what of their word is.

    `own_id` is this workload's SPIFFE ID; `fronts` are `Front` values, or IDs of fronts that terminate as `own_id`.

    Raises:
        CallerError: no front is named, or one twice.
        InvalidSpiffeIDError: an ID is none.

    """

    __slots__ = ("_by", "own_id")

    def __init__(self, own_id: SpiffeID | str, fronts: Iterable[Front | SpiffeID | str]) -> None:
        if isinstance(fronts, str):
            raise CallerError("fronts: give a list of them, not a text")
        self.own_id = _spiffe_id(own_id)
        self._by: dict[SpiffeID, SpiffeID] = {}
        for given in fronts:
            front = given if isinstance(given, Front) else Front(_spiffe_id(given))
            if front.spiffe_id in self._by:
                raise CallerError(f"the front {front.spiffe_id} is named twice")
            self._by[front.spiffe_id] = front.terminates_as or self.own_id
        if not self._by:
            raise CallerError("no trusted front is named: leave this out, or name at least one by its SPIFFE ID")

    def __contains__(self, peer: object) -> bool:
        """Tell whether a peer of a connection is one of the fronts."""
        return isinstance(peer, SpiffeID) and peer in self._by

    def __repr__(self) -> str:
        """Show whom is believed."""
        return f"TrustedFronts({str(self.own_id)!r}, {[str(front) for front in self._by]})"

    def read(self, peer: SpiffeID | None, headers: Iterable[tuple[_Name, _Name]]) -> ForwardedPeer | None:
        """Return whom the peer of a connection speaks for; None if it is no front, or speaks for nobody.

        `headers` are all of a request, as they came. Of other peers nothing is read: the caller of this function keeps
        the header from the application in every case (`without_forwarded`).

        The last element alone counts. Its `By` must be what the front terminates as, once, and must not occur anywhere
        before it, which no honest proxy makes happen: a certificate with `,By=…` in its URI does.

        Raises:
            InvalidForwardedHeaderError: a front sent the header twice or in another spelling, which servers join into
                one; it is malformed; or it is not the word of this front about one SPIFFE ID.

        """
        by = None if peer is None else self._by.get(peer)
        if by is None or peer is None:
            return None
        values = []
        for raw_name, raw_value in headers:
            name, value = _text(raw_name), _text(raw_value)
            if not is_forwarded_header(name):
                continue
            if name.lower() != HEADER:
                raise InvalidForwardedHeaderError(f"a header {name!r}, which servers may take for {HEADER}")
            values.append(value)
        if not values:
            return None
        if len(values) > 1:
            raise InvalidForwardedHeaderError(f"{len(values)} headers {HEADER}; a front sends one")
        return _believed(values[0], front=peer, by=by)


def is_forwarded_header(name: bytes | str) -> bool:
    """Tell whether a header's name is the one of the forwarded certificate, or one that servers may take for it."""
    return _NOT_ALPHANUMERIC.sub("-", _text(name).lower()) == HEADER


def without_forwarded(headers: Iterable[tuple[_Name, _Name]]) -> list[tuple[_Name, _Name]]:
    """Return headers without the forwarded certificate, in whatever spelling."""
    return [(name, value) for name, value in headers if not is_forwarded_header(name)]


def _believed(text: str, *, front: SpiffeID, by: SpiffeID) -> ForwardedPeer:
    element = parse_xfcc(text)[-1]
    if element.by != (str(by),):
        raise InvalidForwardedHeaderError(
            f"the last element of {HEADER} says By={', '.join(element.by)!r}, and not {by}: it is not what {front} adds"
        )
    if f"by={by}".lower() in text[: element.start].lower():
        raise InvalidForwardedHeaderError(f"{HEADER} says By={by} more than once: somebody else wrote one of them")
    if len(element.uri) != 1:
        raise InvalidForwardedHeaderError(f"the last element of {HEADER} names {len(element.uri)} URIs instead of one")
    if element.digest is None:
        raise InvalidForwardedHeaderError(f"the last element of {HEADER} has no Hash")
    try:
        forwarded = SpiffeID.parse(element.uri[0])
    except InvalidSpiffeIDError as error:
        raise InvalidForwardedHeaderError(f"the last element of {HEADER} names no SPIFFE ID: {error}") from error
    if not forwarded.path:
        raise InvalidForwardedHeaderError(f"the last element of {HEADER} names a trust domain and no workload")
    _check_certificate(element, forwarded)
    return ForwardedPeer(forwarded, front, element.digest)


def _check_certificate(element: XFCCElement, forwarded: SpiffeID) -> None:
    """Check that a certificate, where it is forwarded too, is the one the other pairs speak of."""
    if element.cert is None:
        return
    try:
        certificate = x509.load_pem_x509_certificate(urllib.parse.unquote_to_bytes(element.cert))
        named = x509_svid_id(certificate)
    except (ValueError, InvalidX509SVIDError) as error:
        raise InvalidForwardedHeaderError(f"the Cert in {HEADER} is no X509-SVID: {error}") from error
    der = certificate.public_bytes(Encoding.DER)
    if named != forwarded or hashlib.sha256(der).hexdigest() != element.digest:
        raise InvalidForwardedHeaderError(f"the Cert in {HEADER} is not the one that URI and Hash speak of")


def _spiffe_id(given: SpiffeID | str) -> SpiffeID:
    return given if isinstance(given, SpiffeID) else SpiffeID.parse(given)


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
