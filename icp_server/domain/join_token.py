"""Join tokens: a text that lets one key, once, become one agent."""

from __future__ import annotations

import hashlib
import secrets

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.reserved_ids import AGENT_PATH, JOIN_TOKEN, is_agent_id_of, join_token_agent_id
from icp_server.domain.errors import InvalidArgument

ATTESTATION_TYPE = JOIN_TOKEN
UNKNOWN = "failed to attest: join token does not exist or has already been used"


def generate_text() -> str:
    """128 random bits in the shape of a UUID, so that scripts that look for one find one.

    (A version-4 UUID itself carries 122.)
    """
    text = secrets.token_hex(16)
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def agent_id_of(trust_domain: TrustDomain, text: str) -> SpiffeID:
    """The ID of the agent this token makes.

    Raises:
        InvalidArgument: the text is not one segment of a SPIFFE ID's path, so two texts could meet in one agent.
    """
    if not text or "/" in text:
        raise InvalidArgument("failed to create token: the token must be a single SPIFFE ID path segment")
    try:
        return join_token_agent_id(trust_domain, text)
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"failed to create token: token is not a SPIFFE ID path segment: {error}") from error


def digest(text: str) -> bytes:
    """What the database holds instead of the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def digest_of_agent(agent_id: SpiffeID) -> bytes | None:
    """The digest of the token an agent of this ID joined with; None if it cannot have joined with one."""
    if not is_agent_id_of(agent_id, JOIN_TOKEN):
        return None
    return digest(agent_id.path.removeprefix(f"{AGENT_PATH}/{JOIN_TOKEN}/"))
