"""Every node attestor there is, by the name the configuration has for it: one line each, and those of other packages.

Another package adds its own by an entry point of the group `icp_server.node_attestors`, which names a function like
the ``read`` of the modules here: from `plugin_data` to what makes the attestor when the server starts. It cannot take
the name of one that is built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, cast

from authsec_sdk.hcl import Fields
from icp_server.domain.join_token import ATTESTATION_TYPE as JOIN_TOKEN
from icp_server.nodeattestors import http_challenge, join_token, k8s_psat, sshpop, x509pop
from icp_server.ports import Clock, MakeNodeAttestor, NodeAttestor, ReadNodeAttestor, Store

GROUP: Final = "icp_server.node_attestors"

BUILT_IN: Final[Mapping[str, ReadNodeAttestor]] = MappingProxyType(
    {
        JOIN_TOKEN: join_token.read,
        k8s_psat.NAME: k8s_psat.read,
        sshpop.NAME: sshpop.read,
        http_challenge.NAME: http_challenge.read,
        x509pop.NAME: x509pop.read,
    }
)


def known_attestors() -> Mapping[str, ReadNodeAttestor]:
    """What a configuration may name. Code of other packages is loaded when a configuration names it."""
    found = {point.name: _loaded_later(point) for point in entry_points(group=GROUP)}
    return MappingProxyType({**found, **BUILT_IN})


def node_attestors(chosen: Mapping[str, MakeNodeAttestor], store: Store, clock: Clock) -> dict[str, NodeAttestor]:
    """Make the attestors a configuration chose, by name.

    Raises:
        ConfigurationError: a file one needs is missing or wrong.
    """
    return {name: make(store, clock) for name, make in chosen.items()}


def _loaded_later(point: EntryPoint) -> ReadNodeAttestor:
    def read(data: Fields) -> MakeNodeAttestor:
        try:
            reader = cast("ReadNodeAttestor", point.load())
        except Exception as error:
            raise data.error(f"the node attestor {point.name!r} cannot be loaded ({point.value}): {error}") from error
        return reader(data)

    return read
