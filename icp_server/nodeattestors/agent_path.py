"""From an attestor's template and what is known of a node to the SPIFFE ID of its agent."""

from __future__ import annotations

from typing import Final

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.hcl import Fields as Settings
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.reserved_ids import AGENT_PATH
from icp_server.domain.errors import Internal
from icp_server.nodeattestors.path_template import Fields, Known, PathTemplate, PathTemplateError

SETTING: Final = "agent_path_template"


def read_template(data: Settings, default: str, known: Known) -> PathTemplate:
    """Read `agent_path_template`.

    Raises:
        ConfigurationError: with its place and what is not understood.
    """
    text = data.text(SETTING) or default
    try:
        return PathTemplate.parse(text, known)
    except PathTemplateError as error:
        raise data.error(f"failed to parse agent svid template: {text!r}: {error}", SETTING) from error


def agent_id(trust_domain: TrustDomain, template: PathTemplate, fields: Fields) -> SpiffeID:
    """Name the agent.

    Raises:
        Internal: the template comes to nothing for this node, or to no path.
    """
    try:
        return agent_id_of_path(trust_domain, template.render(fields))
    except PathTemplateError as error:
        raise Internal(f"failed to make spiffe id: {error}") from error


def agent_id_of_path(trust_domain: TrustDomain, path: str) -> SpiffeID:
    """Put a path below the agents' namespace.

    Raises:
        Internal: it is no path of a SPIFFE ID.
    """
    try:
        SpiffeID.from_path(trust_domain, path)  # by itself: what is put behind another path need not begin with a slash
        return SpiffeID.from_path(trust_domain, AGENT_PATH + path)
    except InvalidSpiffeIDError as error:
        raise Internal(f"failed to make spiffe id: invalid agent path suffix {path!r}: {error}") from error
