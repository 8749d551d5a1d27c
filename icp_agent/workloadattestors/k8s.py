"""The `k8s` workload attestor: the pod and the container a process is in, as this node's kubelet knows them."""

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from authsec_sdk.errors import UnavailableError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.selectors import Selector
from icp_agent.ports import MakeWorkloadAttestor, WorkloadAttestor
from icp_agent.workloadattestors.cgroups import Container, find_pod_container, parse_cgroups
from icp_agent.workloadattestors.docker import refuse_image_signatures
from icp_agent.workloadattestors.kubelet import SECURE_PORT, Kubelet, KubeletSettings
from icp_agent.workloadattestors.pods import ContainerStatus, Pod, container_selectors, find, pod_selectors
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

NAME: Final = "k8s"
NODE_NAME_VARIABLE: Final = "MY_NODE_NAME"


class PodUnknownError(UnavailableError):
    """The process is in a container of a pod, and the kubelet does not know it after every try."""


@dataclass(frozen=True, slots=True)
class K8sSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    kubelet: KubeletSettings = field(default_factory=KubeletSettings)
    attempts: int = 60
    interval: timedelta = timedelta(milliseconds=500)
    container_selectors: bool = True

    def __call__(self, telemetry: Telemetry) -> WorkloadAttestor:
        """Make the attestor."""
        del telemetry
        return K8sAttestor(self)


class K8sAttestor:
    """Selectors of SPIRE's `k8s` attestor but those of image signatures and of namespace labels.

    The kernel says which container the process is in, the kubelet which pod that is. As the kubelet hears of a new
    container late, it is asked again for a while. None for a process outside of pods. Not held: that the container
    runs what its image had in it, nor that a process with root's rights on the node did not make the control group.
    """

    name = NAME

    def __init__(self, settings: K8sSettings) -> None:
        self._settings = settings
        self._kubelet = Kubelet(settings.kubelet, shared_seconds=settings.interval.total_seconds() / 2)

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        """What the kubelet says of the process's pod.

        Raises:
            CallerGoneError: the process has ended, or moved to another control group meanwhile.
            AmbiguousCgroupsError: its control groups name several containers.
            PodUnknownError: the kubelet does not know the container.
            KubeletError, HTTPExchangeError, PodListError, ConfigurationError: the kubelet cannot be asked.
        """
        before = peer.read_cgroups()
        container = find_pod_container(parse_cgroups(before))
        if container is None:
            return frozenset()
        pod, status = await self._find(container, peer)
        if peer.read_cgroups() != before:
            raise CallerGoneError(f"process {peer.pid} moved to another control group")
        return frozenset(Selector(NAME, value) for value in self._values(pod, status))

    async def _find(self, container: Container, peer: PeerCredentials) -> tuple[Pod, ContainerStatus]:
        for attempt in range(self._settings.attempts):
            if attempt:
                await asyncio.sleep(self._settings.interval.total_seconds())
                peer.verify_still_same()
            found = find(await self._kubelet.pods(), container.pod_uid, container.id)
            if found is not None:
                return found
        raise PodUnknownError(f"the kubelet does not know container {container.id[:12]} of pod {container.pod_uid}")

    def _values(self, pod: Pod, status: ContainerStatus) -> Iterator[str]:
        yield from pod_selectors(pod)
        if self._settings.container_selectors:
            yield from container_selectors(status)


def read(data: Fields) -> MakeWorkloadAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: settings exclude each other, or come later.
    """
    with data:
        kubelet = _read_kubelet(data)
        attempts = data.integer("max_poll_attempts", minimum=0)
        interval = data.duration("poll_retry_interval")
        without_containers = data.boolean("disable_container_selectors") or False
        for key in ("use_new_container_locator", "verbose_container_locator_logs"):
            data.boolean(key)  # there is one way to find the container, for cgroup v1 and v2
        refuse_image_signatures(data)
    defaults = K8sSettings()
    return K8sSettings(kubelet, attempts or defaults.attempts, interval or defaults.interval, not without_containers)


def _read_kubelet(data: Fields) -> KubeletSettings:
    plain = data.integer("kubelet_read_only_port", minimum=0, maximum=65535)
    secure = data.integer("kubelet_secure_port", minimum=0, maximum=65535)
    if plain and secure:
        raise data.error("cannot use both the read-only and secure port", "kubelet_read_only_port")
    certificate, key = data.text("certificate_path"), data.text("private_key_path")
    if bool(certificate) != bool(key):
        raise data.error("certificate_path and private_key_path must be given together", "certificate_path")
    anonymous = data.boolean("use_anonymous_authentication") or False
    variable = data.text("node_name_env") or NODE_NAME_VARIABLE
    node = data.text("node_name") or os.environ.get(variable, "")
    ca, token = data.text("kubelet_ca_path"), data.text("token_path")
    skip = data.boolean("skip_kubelet_verification") or False
    reload = data.duration("reload_interval")
    defaults = KubeletSettings()
    return KubeletSettings(
        host=node or defaults.host,
        port=plain or secure or SECURE_PORT,
        server_name=node or socket.gethostname(),
        secure=not plain,
        verify=not skip,
        anonymous=anonymous,
        ca=Path(ca) if ca else defaults.ca,
        token=Path(token) if token else defaults.token,
        certificate=Path(certificate) if certificate else None,
        private_key=Path(key) if key else None,
        reload_seconds=reload.total_seconds() if reload else defaults.reload_seconds,
    )
