"""Bundles in requests: read as values, with the words SPIRE refuses them with, and named for the audit trail."""

from __future__ import annotations

import hashlib

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.proto.spire import bundle_pb2, types_pb2
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.spire.wire import published_from_wire
from icp_server.domain.errors import InvalidArgument
from icp_server.grpc_api.decode import trust_domain_of


def bundle_of(message: types_pb2.Bundle, invalid_trust_domain: str) -> PublishedBundle:
    """Read the bundle of another trust domain. Marks of what is tainted are its own server's, and dropped.

    Raises:
        InvalidArgument: the trust domain or an authority is missing or malformed, or a number is out of range.
    """
    trust_domain_of(message.trust_domain, invalid_trust_domain)
    try:
        read = published_from_wire(message)
    except InvalidBundleError as error:
        raise InvalidArgument(f"failed to convert bundle: {error}") from error
    return PublishedBundle(read.bundle, key_expiry=read.key_expiry)


def own_authorities(message: bundle_pb2.AppendBundleRequest, own: TrustDomain) -> PublishedBundle:
    """Read the authorities that are to be added to the own bundle.

    Raises:
        InvalidArgument: one is malformed.
    """
    for kind, part in (
        ("JWT", types_pb2.Bundle(jwt_authorities=message.jwt_authorities)),
        ("X.509", types_pb2.Bundle(x509_authorities=message.x509_authorities)),
        ("WIT", types_pb2.Bundle(wit_authorities=message.wit_authorities)),
    ):
        part.trust_domain = own.name
        try:
            published_from_wire(part)
        except InvalidBundleError as error:
            raise InvalidArgument(f"failed to convert {kind} authority: {error}") from error
    read = published_from_wire(
        types_pb2.Bundle(
            trust_domain=own.name,
            x509_authorities=message.x509_authorities,
            jwt_authorities=message.jwt_authorities,
            wit_authorities=message.wit_authorities,
        )
    )
    return PublishedBundle(read.bundle, key_expiry=read.key_expiry)


def masked_audit(message: types_pb2.Bundle, mask: types_pb2.BundleMask | None = None) -> dict[str, object]:
    """Name a bundle, or what the mask lets through of it, for an audit line."""
    fields: dict[str, object] = {"trust_domain_id": message.trust_domain}
    if mask is None or mask.refresh_hint:
        fields["refresh_hint"] = message.refresh_hint
    if mask is None or mask.sequence_number:
        fields["sequence_number"] = message.sequence_number
    seen = types_pb2.Bundle()
    if mask is None or mask.jwt_authorities:
        seen.jwt_authorities.extend(message.jwt_authorities)
    if mask is None or mask.x509_authorities:
        seen.x509_authorities.extend(message.x509_authorities)
    return fields | audited(seen)


def audited(message: types_pb2.Bundle | bundle_pb2.AppendBundleRequest) -> dict[str, object]:
    """Name authorities for an audit line: digests, key IDs and ends."""
    fields: dict[str, object] = {}
    for number, key in enumerate(message.jwt_authorities):
        fields[f"jwt_authority_expires_at.{number}"] = key.expires_at
        fields[f"jwt_authority_key_id.{number}"] = key.key_id
        fields[f"jwt_authority_public_key_sha256.{number}"] = _digest(key.public_key)
    for number, authority in enumerate(message.x509_authorities):
        fields[f"x509_authorities_asn1_sha256.{number}"] = _digest(authority.asn1)
    return fields


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if data else ""
