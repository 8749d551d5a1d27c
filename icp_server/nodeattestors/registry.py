"""Every node attestor there is, by the name the configuration has for it: one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from authsec_sdk.errors import ConfigurationError
from icp_server.nodeattestors.join_token import JoinTokenAttestor
from icp_server.ports import Clock, NodeAttestor, Store

_FACTORIES: dict[str, Callable[[Store, Clock], NodeAttestor]] = {
    JoinTokenAttestor.name: lambda store, clock: JoinTokenAttestor(store.trust_domain, store.join_tokens, clock),
}

NAMES = frozenset(_FACTORIES)
"""What a configuration may name."""


def node_attestors(names: Iterable[str], store: Store, clock: Clock) -> dict[str, NodeAttestor]:
    """The attestors of these names, by name.

    Raises:
        ConfigurationError: there is none of a name.
    """
    made: dict[str, NodeAttestor] = {}
    for name in names:
        if name not in _FACTORIES:
            raise ConfigurationError(f'no node attestor "{name}"; there are: {", ".join(sorted(NAMES))}')
        made[name] = _FACTORIES[name](store, clock)
    return made
