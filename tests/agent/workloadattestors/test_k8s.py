"""The k8s attestor against a kubelet that answers what real ones answered, over real TLS."""

import asyncio
import copy
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.testing import TestCA
from icp_agent.workloadattestors import k8s
from icp_agent.workloadattestors.k8s import K8sAttestor, K8sSettings, PodUnknownError
from icp_agent.workloadattestors.kubelet import Kubelet, KubeletError, KubeletSettings
from icp_agent.workloadattestors.pods import PodListError, find, parse_pods
from icp_common.http_exchange import HTTPExchangeError
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

pytestmark = pytest.mark.anyio

UID = "2c48913c-b29f-11e7-9350-020968147796"
CONTAINER, SIDECAR, SETUP = "a1" * 32, "b2" * 32, "c3" * 32
CGROUP = f"0::/kubepods/burstable/pod{UID}/{CONTAINER}\n"
Place = Callable[[str], PeerCredentials]

# The members of a kubelet's answer that are read, as a 1.20 one wrote them.
POD: dict[str, Any] = {
    "metadata": {
        "name": "web-6b9d5",
        "namespace": "shop",
        "uid": UID,
        "labels": {"app": "web", "pod-template-hash": "6b9d5"},
        "annotations": {"kubernetes.io/config.seen": "2026-01-01T00:00:00Z"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6b9", "uid": "8d1f", "controller": True}
        ],
    },
    "spec": {"serviceAccountName": "web", "nodeName": "node-1", "containers": [{"name": "web", "image": "web:1"}]},
    "status": {
        "phase": "Running",
        "initContainerStatuses": [
            {"name": "setup", "image": "setup:1", "imageID": "", "containerID": f"containerd://{SETUP}"}
        ],
        "containerStatuses": [
            {
                "name": "web",
                "image": "docker.io/web:1",
                "imageID": "docker.io/web@sha256:77af",
                "containerID": f"containerd://{CONTAINER}",
                "state": {"running": {}},
            },
            {"name": "log", "image": "log:2", "imageID": "log@sha256:11", "containerID": f"containerd://{SIDECAR}"},
        ],
    },
}


class FakeKubelet:
    """Serves `/pods`."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = [copy.deepcopy(POD)]
        self.asked: list[bytes] = []
        self.answer: bytes | None = None
        self.port = 0
        self.each: Callable[[], None] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        self.each()
        body = json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(self.answer if self.answer is not None else head + body)
        writer.close()

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator["FakeKubelet"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@pytest.fixture
async def plain() -> AsyncIterator[FakeKubelet]:
    async with FakeKubelet().listening() as kubelet:
        yield kubelet


def settings(kubelet: FakeKubelet, **changes: Any) -> K8sSettings:
    chosen = K8sSettings(
        KubeletSettings(port=kubelet.port, secure=False), attempts=3, interval=timedelta(milliseconds=10)
    )
    return replace(chosen, **changes)


async def values(chosen: K8sSettings, peer: PeerCredentials) -> set[str]:
    selectors = await K8sAttestor(chosen).attest(peer)
    assert all(selector.type == "k8s" for selector in selectors)
    return {selector.value for selector in selectors}


async def test_upstreams_selectors(plain: FakeKubelet, place: Place) -> None:
    assert await values(settings(plain), place(CGROUP)) == {
        "sa:web",
        "ns:shop",
        "node-name:node-1",
        f"pod-uid:{UID}",
        "pod-name:web-6b9d5",
        "pod-image-count:2",
        "pod-init-image-count:1",
        "pod-image:docker.io/web:1",
        "pod-image:docker.io/web@sha256:77af",
        "pod-image:log:2",
        "pod-image:log@sha256:11",
        "pod-init-image:setup:1",
        "pod-label:app:web",
        "pod-label:pod-template-hash:6b9d5",
        "pod-owner:ReplicaSet:web-6b9",
        "pod-owner-uid:ReplicaSet:8d1f",
        "container-name:web",
        "container-image:docker.io/web:1",
        "container-image:docker.io/web@sha256:77af",
    }
    assert plain.asked[0].startswith(b"GET /pods HTTP/1.1\r\n")


async def test_the_pod_alone_where_it_is_asked_for(plain: FakeKubelet, place: Place) -> None:
    found = await values(settings(plain, container_selectors=False), place(CGROUP))
    assert "sa:web" in found
    assert not any(value.startswith("container-") for value in found)


@pytest.mark.parametrize(("id_", "name"), [(SETUP, "setup"), (SIDECAR, "log")])
async def test_init_containers_and_sidecars(plain: FakeKubelet, place: Place, id_: str, name: str) -> None:
    assert f"container-name:{name}" in await values(settings(plain), place(CGROUP.replace(CONTAINER, id_)))


async def test_a_process_outside_of_pods_costs_no_question(plain: FakeKubelet, place: Place) -> None:
    for cgroups in ("0::/\n", f"0::/docker/{CONTAINER}\n", "0::/user.slice/user-1.slice" + CGROUP[3:]):
        assert await values(settings(plain), place(cgroups)) == set()
    assert not plain.asked


async def test_a_static_pod_is_named_by_its_hash(plain: FakeKubelet, place: Place) -> None:
    plain.pods[0]["metadata"]["annotations"]["kubernetes.io/config.hash"] = "ab" * 16
    assert f"pod-uid:{UID}" in await values(settings(plain), place(f"0::/kubepods/pod{'ab' * 16}/{CONTAINER}\n"))


class TestWaiting:
    async def test_for_a_container_the_kubelet_hears_of_late(self, plain: FakeKubelet, place: Place) -> None:
        whole = plain.pods[0]["status"].pop("containerStatuses")

        def appear() -> None:
            if len(plain.asked) == 2:
                plain.pods[0]["status"]["containerStatuses"] = whole

        plain.each = appear
        assert "container-name:web" in await values(settings(plain, attempts=1000), place(CGROUP))
        assert len(plain.asked) == 2

    async def test_not_for_ever(self, plain: FakeKubelet, place: Place) -> None:
        plain.pods = []
        with pytest.raises(PodUnknownError):
            await values(settings(plain), place(CGROUP))
        assert len(plain.asked) == 3

    async def test_not_for_a_caller_that_is_gone(self, plain: FakeKubelet, place: Place, peer: Any) -> None:
        plain.pods = []
        plain.each = peer.end
        with pytest.raises(CallerGoneError):
            await values(settings(plain, attempts=1000), place(CGROUP))

    async def test_many_callers_share_one_question(self, plain: FakeKubelet) -> None:
        kubelet = Kubelet(settings(plain).kubelet, shared_seconds=3600)
        await asyncio.gather(*(kubelet.pods() for _ in range(20)))
        assert len(plain.asked) == 1


class TestForgeries:
    @pytest.mark.parametrize(
        "cgroups",
        [
            CGROUP.replace(UID, UID[:-1] + "7"),  # the container of one pod under the name of another
            CGROUP.replace(CONTAINER, "f" * 64),
        ],
    )
    async def test_names_that_do_not_go_together(self, plain: FakeKubelet, place: Place, cgroups: str) -> None:
        with pytest.raises(PodUnknownError):
            await values(settings(plain), place(cgroups))

    async def test_a_process_that_moves_meanwhile(
        self, plain: FakeKubelet, place: Place, proc: Callable[..., None]
    ) -> None:
        plain.each = lambda: proc(CGROUP.replace(CONTAINER, SIDECAR))
        with pytest.raises(CallerGoneError, match="moved to another control group"):
            await values(settings(plain), place(CGROUP))

    def test_one_container_in_two_pods(self) -> None:
        other = copy.deepcopy(POD)
        other["metadata"]["uid"] = "other"
        pods = parse_pods(json.dumps({"items": [POD, other]}).encode())
        with pytest.raises(PodListError, match="in several pods"):
            find(pods, "", CONTAINER)
        assert find(pods, UID, CONTAINER) is not None


class TestAnswers:
    @pytest.mark.parametrize("status", [301, 401, 403, 500])
    async def test_refusals(self, plain: FakeKubelet, place: Place, status: int) -> None:
        plain.answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
        with pytest.raises(KubeletError, match=str(status)):
            await values(settings(plain), place(CGROUP))

    async def test_nothing(self, plain: FakeKubelet, place: Place) -> None:
        plain.answer = b""
        with pytest.raises(HTTPExchangeError):
            await values(settings(plain), place(CGROUP))

    async def test_nobody(self, place: Place) -> None:
        unused = FakeKubelet()
        async with unused.listening():
            pass
        with pytest.raises(KubeletError, match="cannot be reached"):
            await values(settings(unused), place(CGROUP))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{",
            b'{"items":[1]}',
            b'{"items":[{"metadata":{}}]}',
            b'{"items":[{"metadata":{"uid":1,"name":"a","namespace":"b"}}]}',
            b'{"items":[{"metadata":{"uid":"u","name":"a","namespace":"b","labels":{"x":1}}}]}',
            b'{"items":[{"metadata":{"uid":"u","name":"a","namespace":"b"},"status":{"containerStatuses":[{}]}}]}',
            b"[" * 100_000,
        ],
    )
    def test_no_list_of_pods(self, body: bytes) -> None:
        with pytest.raises(PodListError, match="no list of pods"):
            parse_pods(body)

    def test_a_pod_with_nothing_but_its_name(self) -> None:
        (pod,) = parse_pods(b'{"items":[{"metadata":{"uid":"u","name":"a","namespace":"b"}}]}')
        assert pod.container("") is None
        assert parse_pods(b"{}") == ()


class TestSecurePort:
    """Which kubelet is believed, and what it is shown."""

    @pytest.fixture
    def ca(self, tmp_path: Path) -> TestCA:
        ca = TestCA("example.org")
        (tmp_path / "ca.crt").write_bytes(ca.bundle().to_pem())
        (tmp_path / "token").write_text("very.secret.token\n")
        for name, options in (("kubelet", {"dns_names": ["node-1"]}), ("client", {})):
            svid = ca.svid(f"/{name}", **options)
            key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (tmp_path / f"{name}.crt").write_bytes(svid.leaf.public_bytes(Encoding.PEM))
            (tmp_path / f"{name}.key").write_bytes(key)
        return ca

    @pytest.fixture
    async def secure(self, ca: TestCA, tmp_path: Path) -> AsyncIterator[FakeKubelet]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "kubelet.crt", tmp_path / "kubelet.key")
        context.load_verify_locations(tmp_path / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        async with FakeKubelet().listening(context) as kubelet:
            yield kubelet

    def settings(self, kubelet: FakeKubelet, tmp_path: Path, **changes: Any) -> K8sSettings:
        chosen = KubeletSettings(
            port=kubelet.port, server_name="node-1", ca=tmp_path / "ca.crt", token=tmp_path / "token"
        )
        return replace(settings(kubelet), kubelet=replace(chosen, **changes))

    async def test_a_token(self, secure: FakeKubelet, place: Place, tmp_path: Path) -> None:
        assert await values(self.settings(secure, tmp_path), place(CGROUP))
        assert b"Authorization: Bearer very.secret.token\r\n" in secure.asked[0]
        assert "secret" not in repr(self.settings(secure, tmp_path))

    async def test_a_new_token_is_used_at_once(self, secure: FakeKubelet, tmp_path: Path) -> None:
        kubelet = Kubelet(self.settings(secure, tmp_path).kubelet, shared_seconds=0)
        await kubelet.pods()
        (tmp_path / "token").write_text("newer")
        await kubelet.pods()
        assert b"Bearer newer\r\n" in secure.asked[1]

    async def test_a_certificate_and_no_token(self, secure: FakeKubelet, place: Place, tmp_path: Path) -> None:
        chosen = self.settings(
            secure, tmp_path, certificate=tmp_path / "client.crt", private_key=tmp_path / "client.key"
        )
        assert await values(chosen, place(CGROUP))
        assert b"Authorization" not in secure.asked[0]

    async def test_nothing_at_all(self, secure: FakeKubelet, place: Place, tmp_path: Path) -> None:
        assert await values(self.settings(secure, tmp_path, anonymous=True), place(CGROUP))
        assert b"Authorization" not in secure.asked[0]

    async def test_a_kubelet_with_another_name_gets_no_token(
        self, secure: FakeKubelet, place: Place, tmp_path: Path
    ) -> None:
        with pytest.raises(KubeletError, match="trusted"):
            await values(self.settings(secure, tmp_path, server_name="node-2"), place(CGROUP))
        assert not secure.asked

    async def test_a_kubelet_of_another_authority_gets_no_token(
        self, secure: FakeKubelet, place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "other.crt").write_bytes(TestCA("example.org").bundle().to_pem())
        with pytest.raises(KubeletError, match="trusted"):
            await values(self.settings(secure, tmp_path, ca=tmp_path / "other.crt"), place(CGROUP))
        assert not secure.asked

    async def test_any_kubelet_where_the_operator_says_so(
        self, secure: FakeKubelet, place: Place, tmp_path: Path
    ) -> None:
        chosen = self.settings(secure, tmp_path, verify=False, ca=tmp_path / "none", server_name="x")
        assert await values(chosen, place(CGROUP))

    @pytest.mark.parametrize("missing", ["ca.crt", "token"])
    async def test_missing_files(self, secure: FakeKubelet, place: Place, tmp_path: Path, missing: str) -> None:
        (tmp_path / missing).unlink()
        with pytest.raises(ConfigurationError):
            await values(self.settings(secure, tmp_path), place(CGROUP))
        assert not secure.asked


class TestSettings:
    def test_defaults_are_upstreams(self, data: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MY_NODE_NAME", raising=False)
        read = k8s.read(data())
        assert isinstance(read, K8sSettings)
        assert (read.attempts, read.interval, read.container_selectors) == (60, timedelta(milliseconds=500), True)
        assert (read.kubelet.host, read.kubelet.port, read.kubelet.secure) == ("127.0.0.1", 10250, True)
        assert read.kubelet.verify
        assert str(read.kubelet.ca) == "/run/secrets/kubernetes.io/serviceaccount/ca.crt"
        assert str(read.kubelet.token) == "/run/secrets/kubernetes.io/serviceaccount/token"
        assert read(Telemetry()).name == "k8s"

    def test_all_of_them(self, data: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NODE", "node-7")
        read = k8s.read(
            data(
                """
                kubelet_secure_port = 1
                kubelet_ca_path = "/ca"
                skip_kubelet_verification = true
                token_path = "/t"
                certificate_path = "/c"
                private_key_path = "/k"
                use_anonymous_authentication = true
                node_name_env = "NODE"
                max_poll_attempts = 5
                poll_retry_interval = "1s"
                reload_interval = "10s"
                disable_container_selectors = true
                use_new_container_locator = true
                verbose_container_locator_logs = false
                """
            )
        )
        assert read == K8sSettings(
            KubeletSettings(
                host="node-7",
                port=1,
                server_name="node-7",
                verify=False,
                anonymous=True,
                ca=Path("/ca"),
                token=Path("/t"),
                certificate=Path("/c"),
                private_key=Path("/k"),
                reload_seconds=10,
            ),
            attempts=5,
            interval=timedelta(seconds=1),
            container_selectors=False,
        )

    def test_a_name_in_the_file_beats_the_environments(
        self, data: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_NODE_NAME", "other")
        read = k8s.read(data('node_name = "this"\nkubelet_read_only_port = 10255'))
        assert isinstance(read, K8sSettings)
        assert (read.kubelet.host, read.kubelet.port, read.kubelet.secure) == ("this", 10255, False)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("kubelet_read_only_port = 1\nkubelet_secure_port = 2", "cannot use both"),
            ('certificate_path = "/c"', "must be given together"),
            ('private_key_path = "/c"', "must be given together"),
            ('poll_retry_interval = "soon"', "poll_retry_interval"),
            ("sigstore {}", "'sigstore' is not supported yet"),
            ('kublet_ca_path = "/c"', "did you mean 'kubelet_ca_path'"),
        ],
    )
    def test_refused(self, data: Callable[..., Any], text: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            k8s.read(data(text))
