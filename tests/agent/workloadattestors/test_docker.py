"""The docker attestor against an engine that says what a test wants, over a real socket."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.selectors import Selector
from icp_agent.workloadattestors import docker
from icp_agent.workloadattestors.docker import DockerAttestor, DockerSettings, ForgedContainerError
from icp_agent.workloadattestors.engine import ContainerInfo, EngineError, EngineOwnerError
from icp_common.http_exchange import HTTPExchangeError
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")

ID, OTHER = "a1" * 32, "b2" * 32
Place = Callable[[str], PeerCredentials]


class FakeEngine:
    """Answers `GET /containers/ID/json` as Docker does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.answer: bytes | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def add(self, id_: str, pid: int, **config: Any) -> None:
        self.containers[id_] = {
            "Id": id_,
            "Image": "sha256:" + "c3" * 32,
            "State": {"Running": pid > 0, "Pid": pid},
            "Config": {"Image": "web:1", "Labels": {"app": "web", "com.example:x": "a:b"}, "Env": ["A=1", "B=x=y"]}
            | config,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        except asyncio.IncompleteReadError:
            writer.close()
            return
        self.asked.append(target)
        found = self.containers.get(target.removesuffix("/json").rpartition("/")[2])
        self.meanwhile()
        body = json.dumps(found or {"message": "No such container"}).encode()
        head = f"HTTP/1.1 {200 if found else 404} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(self.answer if self.answer is not None else head + body)
        writer.close()


@pytest.fixture
async def engine(short_path: Path) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine(short_path / "engine.sock")
    server = await asyncio.start_unix_server(fake.serve, fake.path)
    async with server:
        yield fake


@pytest.fixture
def attestor(engine: FakeEngine) -> DockerAttestor:
    return DockerAttestor(DockerSettings(docker=str(engine.path), podman="/nonexistent"))


async def test_upstreams_selectors(engine: FakeEngine, attestor: DockerAttestor, place: Place, peer: Any) -> None:
    engine.add(ID, peer.pid)
    found = await attestor.attest(place(f"0::/docker/{ID}\n"))
    assert found == {
        Selector("docker", value)
        for value in (
            "label:app:web",
            "label:com.example:x:a:b",
            "env:A=1",
            "env:B=x=y",
            "image_id:web:1",
            "image_config_digest:sha256:" + "c3" * 32,
        )
    }
    assert engine.asked == [f"/containers/{ID}/json"]


async def test_no_container_no_question(engine: FakeEngine, attestor: DockerAttestor, place: Place) -> None:
    assert await attestor.attest(place("0::/system.slice/x.service\n")) == frozenset()
    assert not engine.asked


async def test_a_container_the_engine_does_not_know(engine: FakeEngine, attestor: DockerAttestor, place: Place) -> None:
    assert await attestor.attest(place(f"0::/docker/{ID}\n")) == frozenset()
    assert engine.asked


async def test_the_version_is_asked_for(engine: FakeEngine, place: Place, peer: Any) -> None:
    engine.add(ID, peer.pid, Labels=None, Env=None)
    attestor = DockerAttestor(DockerSettings(docker=str(engine.path), version="1.41"))
    found = await attestor.attest(place(f"0::/docker/{ID}\n"))
    assert engine.asked == [f"/v1.41/containers/{ID}/json"]
    assert {selector.value.partition(":")[0] for selector in found} == {"image_id", "image_config_digest"}


async def test_a_digest_that_is_not_the_configurations_is_left_out(
    engine: FakeEngine, attestor: DockerAttestor, place: Place, peer: Any
) -> None:
    engine.add(ID, peer.pid)
    engine.containers[ID]["ImageManifestDescriptor"] = {"digest": "sha256:x"}
    found = await attestor.attest(place(f"0::/docker/{ID}\n"))
    assert not any("image_config_digest" in selector.value for selector in found)


async def test_a_process_deeper_in_the_container_is_in_it(
    engine: FakeEngine, attestor: DockerAttestor, place: Place, proc: Callable[..., None]
) -> None:
    proc(f"0::/docker/{ID}/init.scope\n", os.getpid())
    engine.add(ID, os.getpid())
    assert await attestor.attest(place(f"0::/docker/{ID}/system.slice/web.service\n"))


class TestForgeries:
    """Threats 2 and 3's kin: who may name control groups names them like a container of somebody else."""

    @pytest.mark.parametrize(
        "first",
        ["0::/\n", f"0::/else/{ID}\n", f"0::/docker/{OTHER}\n", f"0::/docker/{OTHER}/{ID}\n"],
        ids=["outside", "another place", "another container", "within another"],
    )
    async def test_a_control_group_that_is_not_the_containers(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place, proc: Callable[..., None], first: str
    ) -> None:
        proc(first, os.getpid())
        engine.add(ID, os.getpid())
        with pytest.raises(ForgedContainerError):
            await attestor.attest(place(f"0::/system.slice/mine.service/{ID}\n"))

    async def test_a_container_that_does_not_run(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place
    ) -> None:
        engine.add(ID, 0)
        with pytest.raises(ForgedContainerError, match="does not run"):
            await attestor.attest(place(f"0::/docker/{ID}\n"))

    async def test_a_container_whose_first_process_ended(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place
    ) -> None:
        engine.add(ID, 2**22 + 1)
        with pytest.raises(ForgedContainerError, match="has ended"):
            await attestor.attest(place(f"0::/docker/{ID}\n"))

    async def test_below_a_users_slice_the_systems_engine_is_not_asked(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place
    ) -> None:
        slice_ = "/user.slice/user-1000.slice/user@1000.service"
        for name in (f"docker-{ID}.scope", f"libpod-{ID}.scope"):
            assert await attestor.attest(place(f"0::{slice_}/{name}\n")) == frozenset()
        assert not engine.asked

    async def test_a_process_that_moves_meanwhile(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place, proc: Callable[..., None]
    ) -> None:
        proc(f"0::/docker/{ID}\n", os.getpid())
        engine.add(ID, os.getpid())
        engine.meanwhile = lambda: proc(f"0::/docker/{OTHER}\n")
        with pytest.raises(CallerGoneError, match="moved to another control group"):
            await attestor.attest(place(f"0::/docker/{ID}\n"))

    async def test_a_process_that_ends_meanwhile(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place, proc: Callable[..., None], peer: Any
    ) -> None:
        proc(f"0::/docker/{ID}\n", os.getpid())
        engine.add(ID, os.getpid())
        engine.meanwhile = peer.end
        with pytest.raises(CallerGoneError):
            await attestor.attest(place(f"0::/docker/{ID}\n"))


class TestPodman:
    async def test_containers_of_the_system(self, engine: FakeEngine, place: Place, peer: Any) -> None:
        engine.add(ID, peer.pid)
        attestor = DockerAttestor(DockerSettings(docker="/nonexistent", podman=str(engine.path)))
        assert await attestor.attest(place(f"0::/machine.slice/libpod-{ID}.scope/container\n"))

    async def test_a_users_own_engine_where_it_is_allowed(self, engine: FakeEngine, place: Place, peer: Any) -> None:
        engine.add(ID, peer.pid)
        uid = os.geteuid()
        engine.path.rename(engine.path.with_name(f"{uid}.sock"))
        settings = DockerSettings(rootless_podman=str(engine.path.with_name("%d.sock")))
        cgroup = f"0::/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-{ID}.scope\n"
        assert await DockerAttestor(settings).attest(place(cgroup))

    async def test_an_engine_of_another_user_than_the_slices_is_not_believed(
        self, engine: FakeEngine, place: Place, peer: Any
    ) -> None:
        engine.add(ID, peer.pid)
        settings = DockerSettings(rootless_podman=str(engine.path.with_name("engine.sock%d")))
        (engine.path.parent / "engine.sock54321").symlink_to(engine.path)
        with pytest.raises(EngineOwnerError, match="may not say what containers are"):
            await DockerAttestor(settings).attest(place(f"0::/user.slice/user-54321.slice/x/libpod-{ID}.scope\n"))


class TestEnginesThatMisbehave:
    async def test_none(self, place: Place) -> None:
        with pytest.raises(EngineError, match="no container engine answers at /nonexistent"):
            await DockerAttestor(DockerSettings(docker="/nonexistent")).attest(place(f"0::/docker/{ID}\n"))

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"", HTTPExchangeError),
            (b"junk\r\n\r\n", HTTPExchangeError),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", HTTPExchangeError),
            (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", EngineError),
            (b"HTTP/1.1 301 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", EngineError),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", EngineError),
        ],
    )
    async def test_answers(
        self, engine: FakeEngine, attestor: DockerAttestor, place: Place, answer: bytes, error: type[Exception]
    ) -> None:
        engine.answer = answer
        with pytest.raises(error):
            await attestor.attest(place(f"0::/docker/{ID}\n"))

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b"null",
            b"{",
            b'{"State":{"Pid":1},"Config":null}',
            b'{"State":{"Pid":"x"},"Config":{}}',
            b'{"State":{"Pid":1},"Config":{"Labels":{"a":1}}}',
            b'{"State":{"Pid":1},"Config":{"Env":[1]}}',
            b'{"State":{"Pid":1},"Config":{"Labels":[]},"Image":[]}',
            b"[" * 100_000,
        ],
    )
    def test_documents(self, body: bytes) -> None:
        with pytest.raises(EngineError, match="unknown answer"):
            ContainerInfo.parse(body)


class TestSettings:
    def test_defaults(self, data: Callable[..., Any]) -> None:
        assert docker.read(data()) == DockerSettings()
        assert docker.read(data())(Telemetry()).name == "docker"

    def test_all_of_them(self, data: Callable[..., Any]) -> None:
        text = """
            docker_socket_path = "unix:///d.sock"
            podman_socket_path = "/p.sock"
            podman_socket_path_template = "unix:///run/user/%d/podman.sock"
            docker_version = "1.41"
            container_id_cgroup_matchers = ["/x/<id>"]
            use_new_container_locator = false
            verbose_container_locator_logs = true
        """
        assert docker.read(data(text)) == DockerSettings(
            "/d.sock", "/p.sock", "/run/user/%d/podman.sock", "1.41", ("/x/<id>",)
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('docker_socket_path = "tcp://host:1"', "must be an absolute path"),
            ('podman_socket_path_template = "/run/podman.sock"', "must have one %d"),
            ('docker_version = "../v1"', "docker_version"),
            ('container_id_cgroup_matchers = ["x"]', "must begin with a slash"),
            ('container_id_cgroup_matchers = ["/<id>"]\nuse_new_container_locator = true', "cannot be used with"),
            ('docker_host = "npipe:x"', "Windows"),
            ("sigstore {}", "'sigstore' is not supported yet"),
            ("experimental { sigstore {} }", "'sigstore' is not supported yet"),
            ('dokcer_version = "1"', "unknown key"),
        ],
    )
    def test_refused(self, data: Callable[..., Any], text: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            docker.read(data(text))

    async def test_an_operators_patterns(
        self, engine: FakeEngine, place: Place, peer: Any, listener: socket.socket
    ) -> None:
        engine.add("box7", peer.pid)
        settings = DockerSettings(docker=str(engine.path), matchers=("/lxc/<id>/*",))
        assert await DockerAttestor(settings).attest(place("0::/lxc/box7/in\n"))
