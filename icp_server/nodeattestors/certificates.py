"""X.509 chains of nodes: authorities from files, all the ways a chain leads to them, and what a template may name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder
from cryptography.x509.verification import Store as Authorities

from authsec_sdk.errors import ConfigurationError
from icp_server.nodeattestors.path_template import Value

MAXIMUM_FILE_BYTES: Final = 4 * 1024 * 1024
_LEAF_POLICY: Final = ExtensionPolicy.permit_all()


def _check_may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key of a CA certificate is not for signing certificates")


_CA_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_may_sign)
)

_NAMES: Final = {
    "CommonName": NameOID.COMMON_NAME,
    "SerialNumber": NameOID.SERIAL_NUMBER,
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "Locality": NameOID.LOCALITY_NAME,
    "Province": NameOID.STATE_OR_PROVINCE_NAME,
    "StreetAddress": NameOID.STREET_ADDRESS,
    "PostalCode": NameOID.POSTAL_CODE,
}
_SINGLE: Final = ("CommonName", "SerialNumber")
_SAN: Final = ("DNSNames", "EmailAddresses", "IPAddresses", "URIs")


class ChainError(ValueError):
    """A chain leads to no authority."""


def load_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """Read a PEM file of at least one certificate.

    Raises:
        ConfigurationError: it cannot be read, or holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_FILE_BYTES + 1)
        if len(data) > MAXIMUM_FILE_BYTES:
            raise ConfigurationError(f"unable to load trust bundle {str(path)!r}: it is larger than 4 MiB")
        return tuple(x509.load_pem_x509_certificates(data))
    except OSError as error:
        raise ConfigurationError(f"unable to load trust bundle {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"unable to load trust bundle {str(path)!r}: {error}") from error


def verified_chains(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    *,
    at: datetime,
    most: int,
) -> list[tuple[x509.Certificate, ...]]:
    """Return a chain (leaf first, authority last) for each authority that vouches for the leaf at this moment.

    Names, signatures, dates, cA, keyCertSign, path lengths and name constraints are checked; any extended key usage
    will do. With one chain for each authority, a node has the fingerprints of all that vouch for it.

    Not checked: revocation. Not verified at all, so refused: SHA-1 signatures, RSA below 2048 bits, keys other than
    RSA and ECDSA.

    Raises:
        ChainError: there is none.
    """
    issuers = {each.issuer for each in (leaf, *intermediates)}
    problem = "signed by unknown authority"
    chains = []
    for authority in dict.fromkeys(authorities):
        if authority.subject not in issuers:
            continue  # no chain of these certificates can end there
        policy = PolicyBuilder().extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
        verifier = policy.store(Authorities([authority])).time(at).max_chain_depth(most).build_client_verifier()
        try:
            chains.append(tuple(verifier.verify(leaf, list(intermediates)).chain))
        except Exception as error:  # noqa: BLE001 - its errors are of several kinds; whatever it is, this is no chain
            problem = str(error)[:200]
    if not chains:
        raise ChainError(problem)
    return chains


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the DER in hex: as upstream names certificates, which trusts nothing to it."""
    return hashlib.sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest()


def serial_number_hex(certificate: x509.Certificate) -> str:
    """The serial number in hex, of an even number of digits."""
    text = f"{certificate.serial_number:x}"
    return f"0{text}" if len(text) % 2 else text


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, the last one if there are several; empty without one."""
    found = _attributes(certificate.subject, "CommonName")
    return found[-1] if found else ""


def uris(certificate: x509.Certificate) -> list[str]:
    """The URI names of the certificate."""
    return _alternative(certificate)["URIs"]


def template_names() -> frozenset[str]:
    """What `template_fields` may hold."""
    names = {f"{side}.{name}" for side in ("Subject", "Issuer") for name in _NAMES}
    return frozenset({*names, *_SAN, "SerialNumber", "SerialNumberHex", "Fingerprint"})


def template_fields(certificate: x509.Certificate) -> dict[str, Value]:
    """What a path template may name of a certificate, spelled as in Go's `x509.Certificate`."""
    fields: dict[str, Value] = {
        "SerialNumber": str(certificate.serial_number),
        "SerialNumberHex": serial_number_hex(certificate),
        "Fingerprint": fingerprint(certificate),
    }
    for side, name in (("Subject", certificate.subject), ("Issuer", certificate.issuer)):
        for each in _NAMES:
            found = _attributes(name, each)
            fields[f"{side}.{each}"] = (found[-1] if found else "") if each in _SINGLE else tuple(found)
    return fields | {name: tuple(values) for name, values in _alternative(certificate).items()}


def _attributes(name: x509.Name, which: str) -> list[str]:
    return [value for each in name.get_attributes_for_oid(_NAMES[which]) if isinstance(value := each.value, str)]


def _alternative(certificate: x509.Certificate) -> dict[str, list[str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {kind: [] for kind in _SAN}
    return {
        "DNSNames": names.get_values_for_type(x509.DNSName),
        "EmailAddresses": names.get_values_for_type(x509.RFC822Name),
        "IPAddresses": [str(each) for each in names.get_values_for_type(x509.IPAddress)],
        "URIs": names.get_values_for_type(x509.UniformResourceIdentifier),
    }
