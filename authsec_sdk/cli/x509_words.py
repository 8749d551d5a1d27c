"""Every rule for one certificate by itself, kept or broken, in words and with its clause; pure.

The verdict is `authsec_sdk.spiffe`'s, which stops at the first broken rule. This tells all of them; a test holds
the two together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from authsec_sdk.cli.output import Facts
from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import SpiffeID

__all__ = ["certificate_facts", "is_authority", "leaf_findings", "lifetime_words", "signer_findings"]

_Type = TypeVar("_Type", bound=x509.ExtensionType)
_BOTH: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


@dataclass(frozen=True, slots=True)
class _Rule:
    clause: str
    words: str
    broken: Callable[[x509.Certificate], bool]


def leaf_findings(leaf: x509.Certificate) -> list[Facts]:
    """Judge a leaf by each rule.

    Raises:
        ValueError: its extensions cannot be parsed.
    """
    return _judge(leaf, _LEAF)


def signer_findings(signer: x509.Certificate, *, authority: bool) -> list[Facts]:
    """Judge an intermediate, or an authority, which may lack the key usage (RFC 5280 section 6.1.1).

    Raises:
        ValueError: its extensions cannot be parsed.
    """
    rules: Sequence[_Rule] = _SIGNER
    if authority:
        rules = [rule for rule in _SIGNER if "critical" not in rule.words]
        if _get(signer, x509.KeyUsage) is None:
            rules = [rule for rule in rules if "keyCertSign" not in rule.words]
    return _judge(signer, rules)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it looks like one of a bundle rather than a leaf gone wrong: a CA that names no workload.

    Raises:
        ValueError: its extensions cannot be parsed.
    """
    return _ca(certificate) is True and not any(one.path for one in _ids(certificate))


def certificate_facts(certificate: x509.Certificate, *, now: datetime) -> Facts:
    """Say what a certificate says.

    Raises:
        ValueError: parts of it cannot be parsed.
    """
    names = _get(certificate, x509.SubjectAlternativeName)
    facts: Facts = {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial_number": str(certificate.serial_number),
        "uris": _uris(certificate),
        "dns_names": [] if names is None else names.value.get_values_for_type(x509.DNSName),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "validity": lifetime_words(certificate.not_valid_before_utc, certificate.not_valid_after_utc, now=now),
        "key": _key(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    return facts


def lifetime_words(not_before: datetime, not_after: datetime, *, now: datetime) -> str:
    """Say where in its life something is."""
    if now < not_before:
        return f"not valid yet: it begins in {(not_before - now).total_seconds():.0f} s; compare the clocks"
    if now >= not_after:
        return f"expired {(now - not_after).total_seconds():.0f} s ago"
    left, whole = (not_after - now).total_seconds(), (not_after - not_before).total_seconds()
    return f"{left:.0f} s left of {whole:.0f}"


def _judge(certificate: x509.Certificate, rules: Sequence[_Rule]) -> list[Facts]:
    return [
        {"rule": rule.words, "clause": rule.clause, "result": "BROKEN" if rule.broken(certificate) else "ok"}
        for rule in rules
    ]


def _get(certificate: x509.Certificate, kind: type[_Type]) -> x509.Extension[_Type] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _get(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.value.get_values_for_type(x509.UniformResourceIdentifier)


def _ids(certificate: x509.Certificate) -> list[SpiffeID]:
    found = []
    for uri in _uris(certificate):
        try:
            found.append(SpiffeID.parse(uri))
        except SpiffeError:
            continue
    return found


def _ca(certificate: x509.Certificate) -> bool | None:
    constraints = _get(certificate, x509.BasicConstraints)
    return None if constraints is None else constraints.value.ca


def _uses(certificate: x509.Certificate, what: str) -> bool:
    usage = _get(certificate, x509.KeyUsage)
    return usage is not None and bool(getattr(usage.value, what))


def _usage_is_critical(certificate: x509.Certificate) -> bool:
    usage = _get(certificate, x509.KeyUsage)
    return usage is not None and usage.critical


def _half_extended(certificate: x509.Certificate) -> bool:
    extended = _get(certificate, x509.ExtendedKeyUsage)
    return extended is not None and not set(extended.value) >= _BOTH


def _san_too_soft(certificate: x509.Certificate) -> bool:
    names = _get(certificate, x509.SubjectAlternativeName)
    return names is not None and not names.critical and not list(certificate.subject)


def _names_spiffe(certificate: x509.Certificate) -> bool:
    return any(uri[:7].lower() == "spiffe:" for uri in _uris(certificate))


def _wrong_signer_id(certificate: x509.Certificate) -> bool:
    uris = _uris(certificate)
    if not _names_spiffe(certificate):
        return False
    try:  # the bundle standard's own example gives a root the URI spiffe://example.com/
        return len(uris) != 1 or bool(
            SpiffeID.parse(uris[0].removesuffix("/") if uris[0].count("/") == 3 else uris[0]).path
        )
    except SpiffeError:
        return True


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").strip("_")


_LEAF: Final = (
    _Rule("X509-SVID 2", "exactly one URI SAN", lambda leaf: len(_uris(leaf)) != 1),
    _Rule("X509-SVID 2", "the URI SAN is a SPIFFE ID", lambda leaf: not _ids(leaf)),
    _Rule("X509-SVID 3.1", "the SPIFFE ID has a path", lambda leaf: any(not one.path for one in _ids(leaf))),
    _Rule("X509-SVID 3.1", "the SAN extension is critical where the subject is empty", _san_too_soft),
    _Rule("X509-SVID 4.1", "basic constraints say cA=false", lambda leaf: _ca(leaf) is not False),
    _Rule("X509-SVID 4.3", "there is a key usage, and it is critical", lambda leaf: not _usage_is_critical(leaf)),
    _Rule("X509-SVID 4.3", "the key usage has digitalSignature", lambda leaf: not _uses(leaf, "digital_signature")),
    _Rule("X509-SVID 4.3", "the key usage has no keyCertSign", lambda leaf: _uses(leaf, "key_cert_sign")),
    _Rule("X509-SVID 4.3", "the key usage has no cRLSign", lambda leaf: _uses(leaf, "crl_sign")),
    _Rule("X509-SVID 4.4", "an extended key usage has serverAuth and clientAuth", _half_extended),
)
_SIGNER: Final = (
    _Rule("X509-SVID 4.1", "basic constraints say cA=true", lambda signer: _ca(signer) is not True),
    _Rule("X509-SVID 4.3", "the key usage has keyCertSign", lambda signer: not _uses(signer, "key_cert_sign")),
    _Rule("X509-SVID 3.2", "a SPIFFE ID, if there is one, has no path", _wrong_signer_id),
    _Rule(
        "X509-SVID 4.3",
        "the key usage is critical where there is a SPIFFE ID",
        lambda signer: _names_spiffe(signer) and not _usage_is_critical(signer),
    ),
)
