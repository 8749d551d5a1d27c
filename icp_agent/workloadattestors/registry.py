"""The workload attestors there are, by the name a configuration gives them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from icp_agent.ports import WorkloadAttestor
from icp_agent.workloadattestors.unix import UnixAttestor

WORKLOAD_ATTESTORS: Mapping[str, Callable[..., WorkloadAttestor]] = MappingProxyType(
    {
        "unix": UnixAttestor,
    }
)

LATER: frozenset[str] = frozenset({"docker", "k8s", "slurm", "systemd"})
"""Attestors of SPIRE that are not built yet."""
