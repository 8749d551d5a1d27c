"""The SPIFFE IDs SPIRE keeps for itself: the server's, the agents', and all below `/spire`."""

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID, TrustDomain

SERVER_PATH = "/spire/server"
RESERVED_PATH = "/spire"
AGENT_PATH = "/spire/agent"
JOIN_TOKEN = "join_token"  # noqa: S105 - the attestor's name, not a secret


def server_id(trust_domain: TrustDomain) -> SpiffeID:
    """The ID every server of the trust domain presents."""
    return SpiffeID.from_path(trust_domain, SERVER_PATH)


def agent_id(trust_domain: TrustDomain, attestor: str, *segments: str) -> SpiffeID:
    """The ID of an agent attested by `attestor`, named by `segments`, each exactly one path segment.

    Raises:
        InvalidSpiffeIDError: a segment is empty, holds a slash or another character no path segment may hold.
    """
    if not segments:
        raise InvalidSpiffeIDError("an agent ID needs at least one segment after the attestor's name")
    return SpiffeID.from_segments(trust_domain, "spire", "agent", attestor, *segments)


def join_token_agent_id(trust_domain: TrustDomain, token: str) -> SpiffeID:
    """The ID of the agent which attests with this join token.

    Raises:
        InvalidSpiffeIDError: the token is not one path segment, so no agent could ever use it.
    """
    return agent_id(trust_domain, JOIN_TOKEN, token)


def is_server_id(spiffe_id: SpiffeID) -> bool:
    """Whether the ID is that of its trust domain's server."""
    return spiffe_id.path == SERVER_PATH


def is_agent_id(spiffe_id: SpiffeID) -> bool:
    """Whether the ID lies in the agents' namespace of its trust domain."""
    return spiffe_id.path.startswith(f"{AGENT_PATH}/")


def is_agent_id_of(spiffe_id: SpiffeID, attestor: str) -> bool:
    """Whether the ID lies in the namespace of agents attested by `attestor`."""
    return spiffe_id.path.startswith(f"{AGENT_PATH}/{attestor}/")


def is_reserved(spiffe_id: SpiffeID) -> bool:
    """Whether no workload may have this ID."""
    return spiffe_id.path == RESERVED_PATH or spiffe_id.path.startswith(f"{RESERVED_PATH}/")


def check_member_id(trust_domain: TrustDomain, spiffe_id: SpiffeID) -> None:
    """Refuse an ID that is not below the trust domain, as a parent or filter must be.

    Raises:
        InvalidSpiffeIDError: with the words a SPIRE server answers.
    """
    _check_member(trust_domain, spiffe_id, "a member of")


def check_agent_id(trust_domain: TrustDomain, spiffe_id: SpiffeID) -> None:
    """Refuse an ID that no agent of the trust domain can have.

    Raises:
        InvalidSpiffeIDError: with the words a SPIRE server answers.
    """
    _check_member(trust_domain, spiffe_id, "an agent in")
    if not is_agent_id(spiffe_id):
        raise InvalidSpiffeIDError(
            f'"{spiffe_id}" is not an agent in trust domain "{trust_domain}"; path is not in the agent namespace'
        )


def check_workload_id(trust_domain: TrustDomain, spiffe_id: SpiffeID) -> None:
    """Refuse an ID that no workload of the trust domain may be given.

    Raises:
        InvalidSpiffeIDError: with the words a SPIRE server answers.
    """
    _check_member(trust_domain, spiffe_id, "a workload in")
    if is_reserved(spiffe_id):
        raise InvalidSpiffeIDError(
            f'"{spiffe_id}" is not a workload in trust domain "{trust_domain}"; path is in the reserved namespace'
        )


def _check_member(trust_domain: TrustDomain, spiffe_id: SpiffeID, role: str) -> None:
    if not spiffe_id.member_of(trust_domain):
        raise InvalidSpiffeIDError(f'"{spiffe_id}" is not a member of trust domain "{trust_domain}"')
    if not spiffe_id.path:
        raise InvalidSpiffeIDError(f'"{spiffe_id}" is not {role} trust domain "{trust_domain}"; path is empty')
