r"""The grammar of `X-Forwarded-Client-Cert`, read strictly: what a proxy says about the client of its connection.

As Envoy documents it: elements apart by commas, one for each proxy on the way, the nearest one last; in an element,
`Key=Value` pairs apart by semicolons; values with `,`, `;` or `=` in double quotes, where `\"` is a quote. Text that
could be read in two ways is refused, never guessed at. Whom to believe is decided in
:mod:`authsec_sdk.integrations.trusted_front`; nothing here is proof of anything.
"""

import re
from dataclasses import dataclass, field

from authsec_sdk.errors import PeerCredentialError

__all__ = [
    "HEADER",
    "MAX_ELEMENTS",
    "MAX_LENGTH",
    "MAX_PAIRS",
    "InvalidForwardedHeaderError",
    "XFCCElement",
    "parse_xfcc",
]

HEADER = "x-forwarded-client-cert"
MAX_LENGTH = 32 * 1024
"""Characters of the whole header: an element with certificate and chain has about 4,000."""
MAX_ELEMENTS = 16
MAX_PAIRS = 256
"""Pairs of all elements together."""

_KEY = re.compile(r"(by|hash|cert|chain|subject|uri|dns)=", re.IGNORECASE)
# Printable ASCII but the quote, the backslash and what tells pairs and elements apart.
_PLAIN = re.compile(r"[!#-+\--:<>-\[\]-~]*")
# A quote in it is `\"`. Two backslashes before a quote may be one that is escaped and the end, or one before a quote
# that is: nobody can tell, so no alternative matches it. Other backslashes stand for themselves.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\+[ !#-\[\]-~]|\\")*)"')
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class InvalidForwardedHeaderError(PeerCredentialError, ValueError):
    """What was forwarded of a client is malformed, can be read in two ways, or is not the word of a trusted front."""


@dataclass(frozen=True, slots=True)
class XFCCElement:
    """What one proxy says. Texts are as they came: nothing is believed, nor parsed further."""

    by: tuple[str, ...] = ()
    digest: str | None = None
    """`Hash`: SHA-256 of the client's certificate, in small letters."""
    cert: str | None = None
    """URL-encoded PEM."""
    chain: str | None = None
    subject: str | None = None
    uri: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    start: int = field(default=0, compare=False)
    """Where in the header it begins."""


def parse_xfcc(text: str) -> tuple[XFCCElement, ...]:
    """Read the value of the header. There is at least one element in it, and in each at least one pair.

    Not checked: that values are what their keys say, but for `Hash`.

    Raises:
        InvalidForwardedHeaderError: the text is not of the grammar, is ambiguous, or exceeds a limit.

    """
    if len(text) > MAX_LENGTH:
        raise InvalidForwardedHeaderError(f"{HEADER} has {len(text)} characters, more than {MAX_LENGTH}")
    elements: list[XFCCElement] = []
    pairs: list[tuple[str, str]] = []
    count = position = start = 0
    while True:
        key, value, position = _pair(text, position)
        pairs.append((key, value))
        count += 1
        if count > MAX_PAIRS:
            raise InvalidForwardedHeaderError(f"{HEADER} has more than {MAX_PAIRS} pairs")
        if text[position : position + 1] != ";":
            elements.append(_element(pairs, start))
            pairs = []
            if position == len(text):
                return tuple(elements)
            if len(elements) == MAX_ELEMENTS:
                raise InvalidForwardedHeaderError(f"{HEADER} has more than {MAX_ELEMENTS} elements")
            start = position + 1
        position += 1


def _pair(text: str, position: int) -> tuple[str, str, int]:
    """Return key, value and the place after them, where a separator or the end must be."""
    key = _KEY.match(text, position)
    if key is None:
        raise _malformed("no key that Envoy documents", text, position)
    position = key.end()
    quoted = _QUOTED.match(text, position)
    if quoted is not None:
        value, position = quoted.group(1).replace('\\"', '"'), quoted.end()
    else:
        plain = _PLAIN.match(text, position)
        assert plain is not None, "it matches nothing, too"
        value, position = plain.group(), plain.end()
    if position < len(text) and text[position] not in ",;":
        raise _malformed("a value that goes on after its end", text, position)
    return key.group(1).lower(), value, position


def _element(pairs: list[tuple[str, str]], start: int) -> XFCCElement:
    def all_of(key: str) -> tuple[str, ...]:
        return tuple(value for name, value in pairs if name == key)

    def one_of(key: str) -> str | None:
        values = all_of(key)
        if len(values) > 1:
            raise InvalidForwardedHeaderError(f"{HEADER} has {key!r} {len(values)} times in one element")
        return values[0] if values else None

    digest = one_of("hash")
    if digest is not None and _DIGEST.fullmatch(digest) is None:
        raise InvalidForwardedHeaderError(f"{HEADER} has a hash that is no SHA-256 in hexadecimal digits")
    return XFCCElement(
        by=all_of("by"),
        digest=None if digest is None else digest.lower(),
        cert=one_of("cert"),
        chain=one_of("chain"),
        subject=one_of("subject"),
        uri=all_of("uri"),
        dns=all_of("dns"),
        start=start,
    )


def _malformed(what: str, text: str, position: int) -> InvalidForwardedHeaderError:
    return InvalidForwardedHeaderError(
        f"{HEADER} is malformed at character {position + 1}: {what}, {text[position : position + 40]!r}"
    )
