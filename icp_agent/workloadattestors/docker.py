"""The `docker` workload attestor: labels, environment and image of the container a process is in, Podman's too."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.selectors import Selector
from icp_agent.ports import MakeWorkloadAttestor, WorkloadAttestor
from icp_agent.workloadattestors.cgroups import CgroupMatchers, Container, find_container, parse_cgroups
from icp_agent.workloadattestors.engine import ContainerInfo, Engine
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.process import Process, ProcessGoneError
from icp_common.telemetry import Telemetry

NAME: Final = "docker"
DOCKER_SOCKET: Final = "/var/run/docker.sock"
PODMAN_SOCKET: Final = "/run/podman/podman.sock"


class ForgedContainerError(OperatorError):
    """The process is in a control group that is named like a container's and is not that container's."""


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """What `plugin_data` says; called, it makes the attestor.

    `rootless_podman` with the user's number as `%d`; empty: containers of users' own engines have no selectors, since
    such a user decides alone what they are.
    """

    docker: str = DOCKER_SOCKET
    podman: str = PODMAN_SOCKET
    rootless_podman: str = ""
    version: str = ""
    matchers: tuple[str, ...] = ()

    def __call__(self, telemetry: Telemetry) -> WorkloadAttestor:
        """Make the attestor."""
        del telemetry
        return DockerAttestor(self)


class DockerAttestor:
    """Selectors `docker:label:KEY:VALUE`, `env:NAME=VALUE`, `image_id:NAME`, `image_config_digest:sha256:…`.

    The kernel says which control group the process is in, the engine what the container of that name is, and that
    container's first process must be in that very control group: one that a user named like a container is refused.
    None for a process outside of containers, or in one the engine does not know. Not held: that what runs in the
    container is what its image had in it.
    """

    name = NAME

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._matchers = CgroupMatchers(settings.matchers) if settings.matchers else None

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        """What the engine says of the process's container.

        Raises:
            CallerGoneError: the process has ended, or moved to another control group meanwhile.
            AmbiguousCgroupsError, ForgedContainerError: its control groups are not to be believed.
            EngineError, EngineOwnerError, HTTPExchangeError: the engine cannot be asked.
        """
        before = peer.read_cgroups()
        container = self._find(before)
        engine = self._engine(container) if container is not None else None
        if container is None or engine is None:
            return frozenset()
        info = await engine.inspect(container.id)
        if info is None:
            return frozenset()
        self._check_first_process(container, info)
        if peer.read_cgroups() != before:
            raise CallerGoneError(f"process {peer.pid} moved to another control group")
        return frozenset(Selector(NAME, value) for value in selector_values(info))

    def _find(self, cgroups: bytes) -> Container | None:
        parsed = parse_cgroups(cgroups)
        return self._matchers.find(parsed) if self._matchers is not None else find_container(parsed)

    def _engine(self, container: Container) -> Engine | None:
        system = frozenset({0, os.geteuid()})
        if container.user is not None:
            if not container.podman or not self._settings.rootless_podman:
                return None
            path = self._settings.rootless_podman.replace("%d", str(container.user))
            return Engine(path, frozenset({container.user}))
        if container.podman:
            return Engine(self._settings.podman, system)
        return Engine(self._settings.docker, system, self._settings.version)

    def _check_first_process(self, container: Container, info: ContainerInfo) -> None:
        if info.first_pid <= 0:
            raise ForgedContainerError(f"container {container.id[:12]} does not run, so nothing can be in it")
        try:
            with Process(info.first_pid) as first:
                genuine = self._find(first.read_cgroups())
        except ProcessGoneError as error:
            raise ForgedContainerError(f"the first process of container {container.id[:12]} has ended") from error
        if genuine is None or not genuine.same_place(container):
            raise ForgedContainerError(f"the control group named like container {container.id[:12]} is not that one's")


def selector_values(info: ContainerInfo) -> Iterator[str]:
    """Upstream's selectors of a container."""
    for key, value in info.labels.items():
        yield f"label:{key}:{value}"
    for variable in info.environment:
        if variable:
            yield f"env:{variable}"
    if info.image:
        yield f"image_id:{info.image}"
    if info.image_config_digest:
        yield f"image_config_digest:{info.image_config_digest}"


def read(data: Fields) -> MakeWorkloadAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: a socket, a template or a pattern is malformed, or a setting comes later.
    """
    with data:
        docker = _socket(data, "docker_socket_path", DOCKER_SOCKET)
        podman = _socket(data, "podman_socket_path", PODMAN_SOCKET)
        rootless = _socket(data, "podman_socket_path_template", "")
        if rootless and rootless.count("%d") != 1:
            raise data.error("podman_socket_path_template must have one %d", "podman_socket_path_template")
        version = data.text("docker_version") or ""
        if not all(part.isdecimal() for part in version.split(".")) and version:
            raise data.error("docker_version must be a version like 1.41", "docker_version")
        matchers = data.texts("container_id_cgroup_matchers") or ()
        if data.boolean("use_new_container_locator") and matchers:
            key = "container_id_cgroup_matchers"
            raise data.error(f"{key} cannot be used with use_new_container_locator", key)
        try:
            CgroupMatchers(matchers)
        except ValueError as error:
            raise data.error(str(error), "container_id_cgroup_matchers") from error
        data.boolean("verbose_container_locator_logs")
        if data.text("docker_host"):
            raise data.error("'docker_host' is for Windows, where this agent does not run", "docker_host")
        refuse_image_signatures(data)
    return DockerSettings(docker, podman, rootless, version, matchers)


def refuse_image_signatures(data: Fields) -> None:
    """Refuse `sigstore`, also as upstream's `experimental.sigstore`.

    Raises:
        ConfigurationError: it is there.
    """
    experimental = data.block("experimental")
    for fields in filter(None, (data, experimental)):
        if fields.bodies("sigstore"):
            raise fields.error("'sigstore' is not supported yet: signatures of images are not verified", "sigstore")
    if experimental is not None:
        experimental.finish()


def _socket(data: Fields, key: str, default: str) -> str:
    text = data.text(key) or default
    path = text.removeprefix("unix://")
    if path and not path.startswith("/"):
        raise data.error(f"{key} must be an absolute path, with or without unix://", key)
    return path
