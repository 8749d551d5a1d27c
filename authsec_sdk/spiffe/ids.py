"""SPIFFE IDs and trust domains: parsed strictly, once, and valid for as long as they live.

The rules are those of the SPIFFE-ID standard, section 2, in their strictest reading: where section 2.1 demands a
lower-case trust domain and section 2.4 calls it case-insensitive, an upper-case letter is refused, never folded.
Nothing is decoded, normalized or trimmed, so two IDs are equal exactly if their texts are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from authsec_sdk.errors import InvalidSpiffeIDError, InvalidTrustDomainError

__all__ = ["MAX_ID_BYTES", "MAX_TRUST_DOMAIN_BYTES", "SpiffeID", "TrustDomain"]

MAX_TRUST_DOMAIN_BYTES: Final = 255
MAX_ID_BYTES: Final = 2048
_SCHEME: Final = "spiffe://"

# The standard's alphabets (sections 2.1 and 2.2). Always used with fullmatch: `$` would let a trailing newline in.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"(?:/[A-Za-z0-9._-]+)*")
_DOT_SEGMENTS: Final = frozenset({".", ".."})


def _shown(text: object) -> str:
    """Quote hostile text for an error message: escaped, and never longer than a line or two."""
    if not isinstance(text, str):
        return f"a {type(text).__name__}"
    return repr(text) if len(text) <= 128 else f"{text[:128]!r}… ({len(text)} characters)"


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of a trust domain, such as `example.org` (SPIFFE-ID section 2.1).

    Raises:
        InvalidTrustDomainError: `name` is empty, longer than 255 bytes, or holds anything but `a-z 0-9 . - _`.
    """

    name: str

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str):
            raise InvalidTrustDomainError(f"a trust domain name must be str, not {_shown(name)}")
        if not name:
            raise InvalidTrustDomainError("the trust domain is missing")
        if len(name) > MAX_TRUST_DOMAIN_BYTES:
            raise InvalidTrustDomainError(f"trust domain {_shown(name)} is longer than {MAX_TRUST_DOMAIN_BYTES} bytes")
        if not _TRUST_DOMAIN.fullmatch(name):
            raise InvalidTrustDomainError(
                f"trust domain {_shown(name)} may hold only lower-case letters, digits, dots, dashes and underscores"
            )

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Read a trust domain from its name or from any SPIFFE ID in it, whose path is checked too.

        Raises:
            InvalidTrustDomainError: the name breaks a rule.
            InvalidSpiffeIDError: `text` is a URI and not a SPIFFE ID.
        """
        if isinstance(text, str) and "://" in text:
            return SpiffeID.parse(text).trust_domain
        return cls(text)

    @property
    def id(self) -> SpiffeID:
        """The SPIFFE ID of the trust domain itself, which has no path and belongs to its authorities."""
        return SpiffeID(self)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        """Let a field of a pydantic model be read from text by `parse`, and be written as text."""
        return _pydantic_schema(cls, cls.parse)

    def __reduce__(self) -> tuple[object, ...]:
        # Through the constructor, so that not even a forged pickle makes an invalid value.
        return (TrustDomain, (self.name,))


@dataclass(frozen=True, slots=True, order=True)
class SpiffeID:
    """A SPIFFE ID: `spiffe://` + trust domain + path, where the path is empty or begins with `/`.

    Equal to another SPIFFE ID only, never to a `str`. Sorts by trust domain, then by path.

    Raises:
        InvalidSpiffeIDError: the path breaks a rule of section 2.2, or the whole is longer than 2048 bytes.
    """

    trust_domain: TrustDomain
    path: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.trust_domain, TrustDomain):
            raise InvalidTrustDomainError(f"a trust domain must be a TrustDomain, not {_shown(self.trust_domain)}")
        _check_path(self.path)
        length = len(_SCHEME) + len(self.trust_domain.name) + len(self.path)
        if length > MAX_ID_BYTES:
            raise InvalidSpiffeIDError(f"a SPIFFE ID of {length} bytes is longer than {MAX_ID_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> SpiffeID:
        """Read a SPIFFE ID from its text.

        Raises:
            InvalidTrustDomainError: the part between the scheme and the path breaks a rule of section 2.1; user
                information and ports do so too.
            InvalidSpiffeIDError: any other rule of section 2 is broken; queries and fragments do so too.
        """
        if not isinstance(text, str):
            raise InvalidSpiffeIDError(f"a SPIFFE ID must be str, not {_shown(text)}")
        if len(text) > MAX_ID_BYTES:
            raise InvalidSpiffeIDError(f"a SPIFFE ID of {len(text)} characters is longer than {MAX_ID_BYTES} bytes")
        if not text.startswith(_SCHEME):
            raise InvalidSpiffeIDError(f"{_shown(text)} does not begin with {_SCHEME}")
        name, slash, rest = text[len(_SCHEME) :].partition("/")
        return cls(TrustDomain(name), slash + rest)

    @classmethod
    def from_path(cls, trust_domain: TrustDomain, path: str) -> SpiffeID:
        """Make the SPIFFE ID of a path, which is empty or begins with a slash, in a trust domain.

        Raises:
            InvalidSpiffeIDError: the path breaks a rule, or the whole is too long.
        """
        return cls(trust_domain, path)

    @classmethod
    def from_segments(cls, trust_domain: TrustDomain, *segments: str) -> SpiffeID:
        """Make a SPIFFE ID of path segments, none of which may hold a slash.

        Raises:
            InvalidSpiffeIDError: a segment breaks a rule, or the whole is too long.
        """
        return cls(trust_domain, _join(segments))

    def append(self, *segments: str) -> SpiffeID:
        """Make the SPIFFE ID with further segments at the end of the path.

        Raises:
            InvalidSpiffeIDError: a segment breaks a rule, or the whole is too long.
        """
        return SpiffeID(self.trust_domain, self.path + _join(segments))

    def member_of(self, trust_domain: TrustDomain) -> bool:
        """Say whether this ID is in the trust domain. Subdomains are other trust domains."""
        return self.trust_domain == trust_domain

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the path, without slashes; none if the path is empty."""
        return tuple(self.path.split("/")[1:])

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"

    def __repr__(self) -> str:
        return f"SpiffeID({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        """Let a field of a pydantic model be read from text by `parse`, and be written as text."""
        return _pydantic_schema(cls, cls.parse)

    def __reduce__(self) -> tuple[object, ...]:
        return (SpiffeID, (self.trust_domain, self.path))


def _pydantic_schema(kind: type[Any], parse: Callable[[str], Any]) -> Any:
    from pydantic_core import core_schema  # by pydantic alone, which has it

    text = core_schema.no_info_after_validator_function(
        parse, core_schema.str_schema(strict=True, max_length=MAX_ID_BYTES)
    )
    return core_schema.json_or_python_schema(
        json_schema=text,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(kind), text]),
        serialization=core_schema.to_string_ser_schema(),
    )


def _join(segments: tuple[str, ...]) -> str:
    for segment in segments:
        check_segment(segment)
    return "".join(f"/{segment}" for segment in segments)


def check_segment(segment: str) -> None:
    """Check one path segment by SPIFFE-ID section 2.2.

    Raises:
        InvalidSpiffeIDError: it is empty, `.` or `..`, or holds a character which paths may not hold.
    """
    if not isinstance(segment, str):
        raise InvalidSpiffeIDError(f"a path segment must be str, not {_shown(segment)}")
    if not segment:
        raise InvalidSpiffeIDError("a path cannot hold an empty segment")
    if segment in _DOT_SEGMENTS:
        raise InvalidSpiffeIDError("a path cannot hold the segments '.' and '..'")
    if not _SEGMENT.fullmatch(segment):
        raise InvalidSpiffeIDError(
            f"path segment {_shown(segment)} may hold only letters, digits, dots, dashes and underscores"
        )


def _check_path(path: str) -> None:
    if not isinstance(path, str):
        raise InvalidSpiffeIDError(f"a path must be str, not {_shown(path)}")
    if path and not path.startswith("/"):
        raise InvalidSpiffeIDError(f"path {_shown(path)} must begin with a slash")
    if path.endswith("/"):
        raise InvalidSpiffeIDError(f"path {_shown(path)} cannot end with a slash")
    if "/." in path or not _PATH.fullmatch(path):  # the common good path is done in one match
        for segment in path.split("/")[1:]:
            check_segment(segment)
