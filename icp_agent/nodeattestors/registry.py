"""The node attestors there are, by the name a configuration gives them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from authsec_sdk.spire.reserved_ids import JOIN_TOKEN
from icp_agent.nodeattestors.join_token import JoinTokenAttestor
from icp_agent.ports import NodeAttestor

NODE_ATTESTORS: Mapping[str, Callable[[Callable[[], str]], NodeAttestor]] = MappingProxyType(
    {
        JOIN_TOKEN: JoinTokenAttestor,
    }
)
"""Each is made with what reads the join token, which is the only thing any of them needs so far."""

LATER: frozenset[str] = frozenset(
    {
        "aws_iid",
        "azure_imds",
        "azure_msi",
        "gcp_iit",
        "http_challenge",
        "k8s_psat",
        "sshpop",
        "tpm_devid",
        "x509pop",
    }
)
"""Attestors of SPIRE that are not built yet."""
