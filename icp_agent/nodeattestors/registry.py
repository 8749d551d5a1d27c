"""The node attestors there are, by the name a configuration gives them: one line each, and those of other packages.

Another package adds its own by an entry point of the group `icp_agent.node_attestors`, which names a function like the
`read` of the modules here. It cannot take the name of one that is built in.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, cast

from authsec_sdk.hcl import Fields
from icp_agent.nodeattestors import http_challenge, join_token, k8s_psat, sshpop, x509pop
from icp_agent.ports import MakeNodeAttestor, ReadNodeAttestor

GROUP: Final = "icp_agent.node_attestors"

BUILT_IN: Final[Mapping[str, ReadNodeAttestor]] = MappingProxyType(
    {
        join_token.NAME: join_token.read,
        k8s_psat.NAME: k8s_psat.read,
        sshpop.NAME: sshpop.read,
        http_challenge.NAME: http_challenge.read,
        x509pop.NAME: x509pop.read,
    }
)

LATER: Final[frozenset[str]] = frozenset(
    {
        "aws_iid",
        "azure_imds",
        "azure_msi",
        "gcp_iit",
        "tpm_devid",
    }
)
"""Attestors of SPIRE that are not built yet."""


def known_attestors() -> Mapping[str, ReadNodeAttestor]:
    """What a configuration may name. Code of other packages is loaded when a configuration names it."""
    found = {point.name: _loaded_later(point) for point in entry_points(group=GROUP)}
    return MappingProxyType({**found, **BUILT_IN})


def _loaded_later(point: EntryPoint) -> ReadNodeAttestor:
    def read(data: Fields) -> MakeNodeAttestor:
        try:
            reader = cast("ReadNodeAttestor", point.load())
        except Exception as error:
            raise data.error(f"the node attestor {point.name!r} cannot be loaded ({point.value}): {error}") from error
        return reader(data)

    return read
