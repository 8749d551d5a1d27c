"""A tiny language for sets of SPIFFE IDs: a SPIFFE ID whose path may hold the segments `*` and, at its end, `**`.

    pattern  = "spiffe://" trust-domain 1*( "/" segment ) [ "/**" ]     ; at least one segment or "/**"
    segment  = "*"              ; any one segment
             / literal          ; itself, letter by letter

There are no wildcards inside a segment and none in the trust domain, so what a pattern cannot match is plain to see.
"""

from __future__ import annotations

from dataclasses import dataclass

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = ["PathPattern"]

_ONE = "*"
_REST = "**"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A parsed pattern: the segments which must be there, and whether one or more may follow."""

    trust_domain: TrustDomain
    segments: tuple[str, ...]
    open_end: bool

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read a pattern.

        Raises:
            InvalidSpiffeIDError: `text` would not be a SPIFFE ID with a path even with its wildcards filled in, `**` is
                not at the end, or a wildcard is a part of a segment.
        """
        if not isinstance(text, str):
            raise InvalidSpiffeIDError(f"a path pattern must be str, not a {type(text).__name__}")
        # A wildcard segment stands for some segment: with `x` in its place, all rules for IDs apply as they are.
        parts = text.split("/")
        filled = "/".join("x" if part in {_ONE, _REST} and index > 2 else part for index, part in enumerate(parts))
        try:
            example = SpiffeID.parse(filled)
        except InvalidSpiffeIDError as error:
            raise InvalidSpiffeIDError(
                f"{text[:256]!r} is not a path pattern: {error} (a wildcard is a whole segment of the path)"
            ) from error
        segments = tuple(parts[3:])
        if not segments:
            raise InvalidSpiffeIDError(f"{text!r} has no path: to accept a whole trust domain, use authorize_member_of")
        if _REST in segments[:-1]:
            raise InvalidSpiffeIDError(f"{text!r} is not a path pattern: ** stands for the rest, so it comes last")
        open_end = segments[-1] == _REST
        return cls(example.trust_domain, segments[:-1] if open_end else segments, open_end)

    def matches(self, spiffe_id: SpiffeID) -> bool:
        """Say whether the pattern stands for this ID, among others."""
        if spiffe_id.trust_domain != self.trust_domain:
            return False
        actual = spiffe_id.segments
        if len(actual) <= len(self.segments) if self.open_end else len(actual) != len(self.segments):
            return False
        return all(wanted in (_ONE, segment) for wanted, segment in zip(self.segments, actual, strict=False))

    def __str__(self) -> str:
        return "/".join((f"spiffe://{self.trust_domain}", *self.segments, *((_REST,) if self.open_end else ())))
