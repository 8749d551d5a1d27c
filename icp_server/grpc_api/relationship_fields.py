"""Federation relationships in messages: read as values in SPIRE's words, sent, and named for the audit trail."""

from __future__ import annotations

from typing import Final

from authsec_sdk.errors import InvalidBundleError, InvalidEndpointError, InvalidSpiffeIDError
from authsec_sdk.federation.url import check_url
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.spire.wire import published_from_wire, published_to_wire
from icp_server.domain.errors import InvalidArgument
from icp_server.domain.federation import Endpoint, FederationRelationship, RelationshipChanges
from icp_server.grpc_api.bundle_fields import masked_audit
from icp_server.grpc_api.decode import trust_domain_of

_WRONG: Final = "failed to convert federation relationship"
_EVERYTHING: Final = types_pb2.FederationRelationshipMask(
    bundle_endpoint_url=True, bundle_endpoint_profile=True, trust_domain_bundle=True
)


def relationship_of(message: types_pb2.FederationRelationship) -> FederationRelationship:
    """Read a new relationship.

    Raises:
        InvalidArgument: a part of it is missing or malformed.
    """
    trust_domain = trust_domain_of(message.trust_domain, f"{_WRONG}: failed to parse trust domain")
    url = _url(message.bundle_endpoint_url)
    return FederationRelationship(trust_domain, Endpoint(url, _server_id(message)), _bundle(message, trust_domain))


def changes_of(
    message: types_pb2.FederationRelationship, mask: types_pb2.FederationRelationshipMask | None
) -> RelationshipChanges:
    """Read what an update wants. All of the message is checked, as upstream does, whatever the mask names.

    Raises:
        InvalidArgument: a part of it is missing or malformed.
    """
    whole = relationship_of(message)
    wanted = _EVERYTHING if mask is None else mask
    return RelationshipChanges(
        whole.trust_domain,
        url=whole.endpoint.url if wanted.bundle_endpoint_url else None,
        profile=whole.endpoint if wanted.bundle_endpoint_profile else None,
        bundle=whole.bundle if wanted.trust_domain_bundle else None,
    )


def relationship_to_wire(
    relationship: FederationRelationship, mask: types_pb2.FederationRelationshipMask | None
) -> types_pb2.FederationRelationship:
    """Send a relationship, or what the mask lets through of it; the trust domain always."""
    message = types_pb2.FederationRelationship(trust_domain=relationship.trust_domain.name)
    wanted = _EVERYTHING if mask is None else mask
    if wanted.bundle_endpoint_url:
        message.bundle_endpoint_url = relationship.endpoint.url
    if wanted.bundle_endpoint_profile:
        server_id = relationship.endpoint.server_id
        if server_id is None:
            message.https_web.SetInParent()
        else:
            message.https_spiffe.endpoint_spiffe_id = str(server_id)
    if wanted.trust_domain_bundle and relationship.bundle is not None:
        message.trust_domain_bundle.CopyFrom(published_to_wire(relationship.bundle))
    return message


def audited(
    message: types_pb2.FederationRelationship, mask: types_pb2.FederationRelationshipMask | None = None
) -> dict[str, object]:
    """Name a relationship, or what the mask lets through of it, for an audit line."""
    wanted = _EVERYTHING if mask is None else mask
    fields: dict[str, object] = {}
    if message.trust_domain:
        fields["trust_domain_id"] = message.trust_domain
    if wanted.bundle_endpoint_url:
        fields["bundle_endpoint_url"] = message.bundle_endpoint_url
    profile = message.WhichOneof("bundle_endpoint_profile")
    if wanted.bundle_endpoint_profile and profile is not None:
        fields["bundle_endpoint_profile"] = profile
        if profile == "https_spiffe":
            fields["endpoint_spiffe_id"] = message.https_spiffe.endpoint_spiffe_id
    if wanted.trust_domain_bundle and message.HasField("trust_domain_bundle"):
        fields |= {f"bundle_{name}": value for name, value in masked_audit(message.trust_domain_bundle).items()}
    return fields


def _url(text: str) -> str:
    """The URL, if one may fetch a bundle there.

    SPIRE's texts for the three things it looks at; ours for what else no URL may hold.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != "https":
        raise InvalidArgument(f"{_WRONG}: bundle endpoint URL must use the https scheme")
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if not authority:
        raise InvalidArgument(f"{_WRONG}: bundle endpoint URL must specify the host")
    if "@" in authority:
        raise InvalidArgument(f"{_WRONG}: bundle endpoint URL must not contain user info")
    try:
        check_url(text)
    except InvalidEndpointError as error:
        raise InvalidArgument(f"{_WRONG}: failed to parse bundle endpoint URL: {error}") from error
    return text


def _server_id(message: types_pb2.FederationRelationship) -> SpiffeID | None:
    """Who serves the bundle, for `https_spiffe`; None for `https_web`."""
    profile = message.WhichOneof("bundle_endpoint_profile")
    if profile is None:
        raise InvalidArgument(f"{_WRONG}: unsupported bundle endpoint profile type: <nil>")
    if profile == "https_web":
        return None
    try:
        server_id = SpiffeID.parse(message.https_spiffe.endpoint_spiffe_id)
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"{_WRONG}: failed to parse endpoint SPIFFE ID: {error}") from error
    if not server_id.path:
        raise InvalidArgument(
            f"{_WRONG}: failed to parse endpoint SPIFFE ID: {server_id} is a trust domain and proves no server"
        )
    return server_id


def _bundle(message: types_pb2.FederationRelationship, trust_domain: TrustDomain) -> PublishedBundle | None:
    if not message.HasField("trust_domain_bundle"):
        return None
    given = message.trust_domain_bundle
    owner = trust_domain_of(given.trust_domain, f"{_WRONG}: failed to parse bundle: invalid trust domain")
    if owner != trust_domain:
        raise InvalidArgument(
            f'{_WRONG}: trust domain bundle ("{given.trust_domain}") must match the trust domain of the federation '
            f'relationship ("{trust_domain}")'
        )
    try:
        read = published_from_wire(given)
    except InvalidBundleError as error:
        raise InvalidArgument(f"{_WRONG}: failed to parse bundle: {error}") from error
    return PublishedBundle(read.bundle, key_expiry=read.key_expiry)
