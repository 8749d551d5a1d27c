"""The one table of who may call what; everything that decides about a caller's rights reads it here.

The rows are SPIRE's default policy. A method without a row is refused, so a new RPC cannot be served before somebody
has decided who may call it.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class Right(enum.Flag):
    """A kind of caller a method may be open to."""

    NOBODY = 0
    ANY = enum.auto()
    """Everybody, also a caller who showed no certificate."""
    AGENT = enum.auto()
    """An attested agent that calls with its active X509-SVID."""
    DOWNSTREAM = enum.auto()
    """A workload whose registration entry says `downstream`."""
    LOCAL = enum.auto()
    """A process that reached the admin Unix socket."""
    ADMIN = enum.auto()
    """An ID from `admin_ids`, or a workload whose registration entry says `admin` and whose SVID we issued so."""


OPERATOR: Final = Right.LOCAL | Right.ADMIN

AGENT_SERVICE: Final = "spire.api.server.agent.v1.Agent"
BUNDLE_SERVICE: Final = "spire.api.server.bundle.v1.Bundle"
ENTRY_SERVICE: Final = "spire.api.server.entry.v1.Entry"
SVID_SERVICE: Final = "spire.api.server.svid.v1.SVID"
LOCAL_AUTHORITY_SERVICE: Final = "spire.api.server.localauthority.v1.LocalAuthority"
TRUST_DOMAIN_SERVICE: Final = "spire.api.server.trustdomain.v1.TrustDomain"
LOGGER_SERVICE: Final = "spire.api.server.logger.v1.Logger"
DEBUG_SERVICE: Final = "spire.api.server.debug.v1.Debug"
REFLECTION_SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
HEALTH_SERVICE: Final = "grpc.health.v1.Health"

_BY_SERVICE: Final[Mapping[str, Mapping[str, Right]]] = {
    AGENT_SERVICE: {
        "AttestAgent": Right.ANY,
        "RenewAgent": Right.AGENT,
        "PostStatus": Right.AGENT,
        "CountAgents": OPERATOR,
        "ListAgents": OPERATOR,
        "GetAgent": OPERATOR,
        "DeleteAgent": OPERATOR,
        "BanAgent": OPERATOR,
        "CreateJoinToken": OPERATOR,
    },
    BUNDLE_SERVICE: {
        "GetBundle": Right.ANY,
        "GetFederatedBundle": OPERATOR | Right.AGENT,
        "PublishJWTAuthority": Right.DOWNSTREAM,
        "PublishWITAuthority": Right.DOWNSTREAM,
        "AppendBundle": OPERATOR,
        "CountBundles": OPERATOR,
        "ListFederatedBundles": OPERATOR,
        "BatchCreateFederatedBundle": OPERATOR,
        "BatchUpdateFederatedBundle": OPERATOR,
        "BatchSetFederatedBundle": OPERATOR,
        "BatchDeleteFederatedBundle": OPERATOR,
    },
    ENTRY_SERVICE: {
        "GetAuthorizedEntries": Right.AGENT,
        "SyncAuthorizedEntries": Right.AGENT,
        "CountEntries": OPERATOR,
        "ListEntries": OPERATOR,
        "GetEntry": OPERATOR,
        "BatchCreateEntry": OPERATOR,
        "BatchUpdateEntry": OPERATOR,
        "BatchDeleteEntry": OPERATOR,
    },
    SVID_SERVICE: {
        "BatchNewX509SVID": Right.AGENT,
        "NewJWTSVID": Right.AGENT,
        "BatchNewWITSVID": Right.AGENT,
        "NewDownstreamX509CA": Right.DOWNSTREAM,
        "MintX509SVID": OPERATOR,
        "MintJWTSVID": OPERATOR,
        "MintWITSVID": OPERATOR,
    },
    LOCAL_AUTHORITY_SERVICE: {
        "GetJWTAuthorityState": OPERATOR,
        "PrepareJWTAuthority": OPERATOR,
        "ActivateJWTAuthority": OPERATOR,
        "TaintJWTAuthority": OPERATOR,
        "RevokeJWTAuthority": OPERATOR,
        "GetX509AuthorityState": OPERATOR,
        "PrepareX509Authority": OPERATOR,
        "ActivateX509Authority": OPERATOR,
        "TaintX509Authority": OPERATOR,
        "RevokeX509Authority": OPERATOR,
        "TaintX509UpstreamAuthority": OPERATOR,
        "RevokeX509UpstreamAuthority": OPERATOR,
        "GetWITAuthorityState": OPERATOR,
        "PrepareWITAuthority": OPERATOR,
        "ActivateWITAuthority": OPERATOR,
        "TaintWITAuthority": OPERATOR,
        "RevokeWITAuthority": OPERATOR,
    },
    TRUST_DOMAIN_SERVICE: {
        "ListFederationRelationships": OPERATOR,
        "GetFederationRelationship": OPERATOR,
        "BatchCreateFederationRelationship": OPERATOR,
        "BatchUpdateFederationRelationship": OPERATOR,
        "BatchDeleteFederationRelationship": OPERATOR,
        "RefreshBundle": OPERATOR,
    },
    HEALTH_SERVICE: {
        "Check": Right.LOCAL,
        "List": Right.LOCAL,
        "Watch": Right.LOCAL,
    },
    LOGGER_SERVICE: {
        "GetLogger": Right.LOCAL,
        "SetLogLevel": Right.LOCAL,
        "ResetLogLevel": Right.LOCAL,
    },
    DEBUG_SERVICE: {"GetInfo": Right.LOCAL},
    **{service: {"ServerReflectionInfo": Right.LOCAL} for service in REFLECTION_SERVICES},
}

LOCAL_SERVICES: Final = frozenset({HEALTH_SERVICE, LOGGER_SERVICE, DEBUG_SERVICE, *REFLECTION_SERVICES})
"""What is on the admin socket alone; over TCP it is not even there."""

ACCESS: Final[Mapping[str, Right]] = MappingProxyType(
    {f"/{service}/{method}": right for service, methods in _BY_SERVICE.items() for method, right in methods.items()}
)
"""Full gRPC method name to the kinds of callers who may call it."""


def access_of(method: str) -> Right:
    """Say who may call `method` (as `/package.Service/Method`); nobody may call what has no row."""
    return ACCESS.get(method, Right.NOBODY)
