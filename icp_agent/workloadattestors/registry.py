"""The workload attestors there are, by the name a configuration gives them: one line each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from icp_agent.ports import ReadWorkloadAttestor
from icp_agent.workloadattestors import docker, k8s, systemd, unix

WORKLOAD_ATTESTORS: Final[Mapping[str, ReadWorkloadAttestor]] = MappingProxyType(
    {
        docker.NAME: docker.read,
        k8s.NAME: k8s.read,
        systemd.NAME: systemd.read,
        unix.NAME: unix.read,
    }
)

LATER: Final[frozenset[str]] = frozenset({"slurm"})
"""Attestors of SPIRE that are not built yet."""
