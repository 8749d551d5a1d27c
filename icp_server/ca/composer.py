"""Runs the configured credential composers one after the other, and holds each answer against its bounds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.dns_names import InvalidDNSNameError, check_dns_name, check_no_wildcard_overlap
from icp_server.domain.composer import CAAttributes, CredentialComposer, X509Attributes
from icp_server.domain.errors import Internal

logger = logging.getLogger(__name__)

MAX_SUBJECT_BYTES: Final = 4 * 1024
MAX_EXTENSION_BYTES: Final = 16 * 1024
MAX_DNS_NAMES: Final = 1000
MAX_CLAIM_BYTES: Final = 16 * 1024
"""Every handshake carries certificates, and every request tokens; HTTP servers refuse longer headers."""

_RESERVED_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
_FIXED_CLAIMS: Final = ("sub", "aud", "iat")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Composers:
    """The configured composers in their order, and the bounds around them."""

    chain: tuple[tuple[str, CredentialComposer], ...] = ()
    """Each with its name."""

    def __bool__(self) -> bool:
        return bool(self.chain)

    def server_ca(self, attributes: CAAttributes, not_before: datetime) -> CAAttributes:
        """Compose a CA certificate.

        Raises:
            Internal: a composer failed, or went beyond its bounds.
        """

        def checked(name: str, given: CAAttributes, made: CAAttributes) -> CAAttributes:
            return replace(made, not_after=_checked_common(name, given, made, not_before))

        return self._composed("server_ca", attributes, CAAttributes, lambda c, a: c.server_ca(a), checked)

    def x509_svid(self, role: str, spiffe_id: SpiffeID, attributes: X509Attributes, start: datetime) -> X509Attributes:
        """Compose an X509-SVID; `role` names the composer's method.

        Raises:
            Internal: a composer failed, or went beyond its bounds.
        """

        def checked(name: str, given: X509Attributes, made: X509Attributes) -> X509Attributes:
            end = _checked_common(name, given, made, start)
            return replace(made, not_after=end, dns_names=_checked_dns_names(name, made.dns_names))

        return self._composed(role, attributes, X509Attributes, lambda c, a: getattr(c, role)(spiffe_id, a), checked)

    def workload_jwt_svid(self, spiffe_id: SpiffeID, claims: dict[str, object]) -> dict[str, object]:
        """Compose the claims of a JWT-SVID.

        Raises:
            Internal: a composer failed, or went beyond its bounds.
        """

        def compose(composer: CredentialComposer, given: dict[str, object]) -> dict[str, object]:
            made = composer.workload_jwt_svid(spiffe_id, json.loads(json.dumps(given)))
            return dict(made) if isinstance(made, Mapping) else made

        return self._composed("workload_jwt_svid", claims, dict, compose, _checked_claims)

    def _composed(
        self,
        what: str,
        attributes: _T,
        kind: type,
        compose: Callable[[CredentialComposer, _T], _T],
        checked: Callable[[str, _T, _T], _T],
    ) -> _T:
        for name, composer in self.chain:
            try:
                made = compose(composer, attributes)
                if not isinstance(made, kind):
                    raise _beyond(name, f"answered with {type(made).__name__}")
                attributes = checked(name, attributes, made)
            except Internal as error:
                logger.error("Refused what a credential composer made step=%s error=%s", what, error.message)  # noqa: TRY400
                raise
            except Exception as error:
                logger.exception("A credential composer failed name=%s step=%s", name, what)
                raise Internal(f"credential composer {name!r} failed") from error
        return attributes


NO_COMPOSERS: Final = Composers()


def _checked_common(
    name: str, given: CAAttributes | X509Attributes, made: CAAttributes | X509Attributes, start: datetime
) -> datetime:
    """Check what CA certificates and SVIDs have in common; the end in whole seconds."""
    if not isinstance(made.subject, x509.Name) or len(made.subject.public_bytes()) > MAX_SUBJECT_BYTES:
        raise _beyond(name, f"made a subject that is none, or longer than {MAX_SUBJECT_BYTES} bytes")
    if made.not_after.tzinfo is None or made.not_after > given.not_after:
        raise _beyond(name, f"asked for an end at {made.not_after}; {given.not_after} is the latest")
    end = made.not_after.replace(microsecond=0)
    if end <= start:
        raise _beyond(name, f"asked for an end at {made.not_after}, before the beginning")
    size = 0
    seen = set()
    for extension in made.extensions:
        if not isinstance(extension, x509.Extension) or extension.oid in _RESERVED_EXTENSIONS:
            raise _beyond(name, f"may not set the extension {getattr(extension, 'oid', extension)}")
        if extension.critical:
            raise _beyond(name, f"made the extension {extension.oid.dotted_string} critical, which verifiers refuse")
        if extension.oid in seen:
            raise _beyond(name, f"made the extension {extension.oid.dotted_string} twice")
        seen.add(extension.oid)
        size += len(extension.value.public_bytes())
    if size > MAX_EXTENSION_BYTES:
        raise _beyond(name, f"made extensions of {size} bytes; {MAX_EXTENSION_BYTES} is the most")
    return end


def _checked_dns_names(name: str, dns_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dns_names)
    if len(names) > MAX_DNS_NAMES:
        raise _beyond(name, f"made {len(names)} DNS names; {MAX_DNS_NAMES} is the most")
    try:
        for each in names:
            check_dns_name(each)
        check_no_wildcard_overlap(names)
    except InvalidDNSNameError as error:
        raise _beyond(name, f"made a DNS name that is none: {error}") from error
    return names


def _checked_claims(name: str, given: dict[str, object], made: dict[str, object]) -> dict[str, object]:
    try:
        text = json.dumps(made, allow_nan=False)
        same: dict[str, object] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _beyond(name, f"made claims that are no JSON: {error}") from error
    if len(text) > MAX_CLAIM_BYTES:
        raise _beyond(name, f"made claims of {len(text)} bytes; {MAX_CLAIM_BYTES} is the most")
    fixed = (*_FIXED_CLAIMS, *(("iss",) if "iss" in given else ()))
    for claim in fixed:
        if same.get(claim) != given.get(claim):
            raise _beyond(name, f"changed the claim {claim!r}")
    _check_times(name, given, same)
    return same


def _check_times(name: str, given: dict[str, object], made: dict[str, object]) -> None:
    end, latest, start = made.get("exp"), given["exp"], given["iat"]
    if type(end) is not int or not isinstance(latest, int) or not isinstance(start, int) or not start < end <= latest:
        raise _beyond(name, f"asked for an end at {end!r}; {latest} is the latest")
    begin = made.get("nbf", start)
    if type(begin) is not int or begin >= end:
        raise _beyond(name, f"asked for a beginning at {begin!r}, not before the end")


def _beyond(name: str, problem: str) -> Internal:
    return Internal(f"credential composer {name!r} {problem}")
