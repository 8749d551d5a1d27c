"""Bundles in files: PEM or a SPIFFE bundle document, read as the message the server takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from authsec_sdk.errors import InvalidBundleError, InvalidSpiffeIDError
from authsec_sdk.proto.spire import types_pb2
from icp_server.cli.api import CommandError
from icp_server.cli.output import quote

PEM: Final = "pem"
SPIFFE: Final = "spiffe"

_LARGEST: Final = 4 * 1024 * 1024


def read_format(text: str) -> str:
    """One of the two formats, in any case.

    Raises:
        CommandError: it is another.
    """
    wanted = text.lower() or PEM
    if wanted not in (PEM, SPIFFE):
        raise CommandError(f"invalid format: {quote(wanted)}")
    return wanted


def read_file(path: str) -> bytes:
    """Read a file, or standard input if none is named.

    Raises:
        CommandError: it cannot be read, or is larger than any bundle.
    """
    try:
        if path:
            with Path(path).open("rb") as file:
                data = file.read(_LARGEST + 1)
        else:
            data = sys.stdin.buffer.read(_LARGEST + 1)
    except OSError as error:
        raise CommandError(f"unable to load bundle data: open {path}: {(error.strerror or '').lower()}") from error
    if len(data) > _LARGEST:
        raise CommandError(f"unable to load bundle data: more than {_LARGEST} bytes")
    return data


def to_message(data: bytes, format_: str, trust_domain: str) -> types_pb2.Bundle:
    """Read a bundle. The trust domain goes to the server as it was written.

    Raises:
        CommandError: the data is not of the format, or the trust domain of a document is none.
    """
    from authsec_sdk.spiffe import TrustDomain, parse_bundle_document
    from authsec_sdk.spire.wire import bundle_to_wire

    if format_ == PEM:
        return _from_pem(data, trust_domain)
    try:
        domain = TrustDomain.parse(trust_domain)
    except InvalidSpiffeIDError as error:
        raise CommandError(str(error)) from error
    try:
        return bundle_to_wire(parse_bundle_document(domain, data))
    except InvalidBundleError as error:
        raise CommandError(f"unable to parse to spiffe bundle: {error}") from error


def _from_pem(data: bytes, trust_domain: str) -> types_pb2.Bundle:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        authorities = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CommandError("unable to parse bundle data: no PEM blocks") from error
    message = types_pb2.Bundle(trust_domain=trust_domain)
    for authority in authorities:
        message.x509_authorities.add(asn1=authority.public_bytes(Encoding.DER))
    return message
