"""k8s_psat at the server, over real https against recorded answers, or against the cluster of ICP_TEST_KUBECONFIG."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.attestation.k8s_psat import ClusterToken
from authsec_sdk.spire.attestation.messages import AttestationMessageError
from icp_server.domain.errors import Internal, InvalidArgument, PermissionDenied
from icp_server.nodeattestors.kubeconfig import api_server
from icp_server.nodeattestors.kubernetes import Cluster, KubernetesError

pytestmark = pytest.mark.anyio


def _stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("api_server_stand_in", Path(__file__).with_name("api_server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAND_IN = _stand_in()
TOKEN = STAND_IN.TOKEN


@pytest.fixture
def cluster() -> Iterator[Any]:
    with STAND_IN.APIServerStandIn() as running:
        yield running


@pytest.fixture
def attestor(make_attestor: Any, cluster: Any, tmp_path: Path) -> Any:
    return make_attestor("k8s_psat", settings(cluster.write_kubeconfig(tmp_path / "kube.json")))


def settings(kubeconfig: Path, more: str = "") -> str:
    return (
        f'clusters = {{ "main" = {{ service_account_allow_list = ["default:agent"] '
        f'kube_config_file = "{kubeconfig}" {more} }} }}'
    )


def payload(token: str = TOKEN, cluster: str = "main") -> bytes:
    return ClusterToken(cluster, token).payload()


async def test_a_node_gets_upstreams_id_and_selectors(attestor: Any, attest: Any, cluster: Any) -> None:
    result = await attest(attestor, payload())
    assert str(result.agent_id) == "spiffe://example.org/spire/agent/k8s_psat/main/node-uid-1"
    assert [str(each) for each in result.selectors] == [
        "k8s_psat:cluster:main",
        "k8s_psat:agent_ns:default",
        "k8s_psat:agent_sa:agent",
        "k8s_psat:agent_pod_name:agent-x7k",
        "k8s_psat:agent_pod_uid:pod-uid-1",
        "k8s_psat:agent_node_ip:172.16.10.1",
        "k8s_psat:agent_node_name:node-1",
        "k8s_psat:agent_node_uid:node-uid-1",
    ]
    assert result.can_reattest
    assert cluster.asked == [
        "POST /apis/authentication.k8s.io/v1/tokenreviews",
        "GET /api/v1/namespaces/default/pods/agent-x7k",
        "GET /api/v1/nodes/node-1",
    ]


async def test_labels_that_are_allowed_become_selectors(
    make_attestor: Any, attest: Any, cluster: Any, tmp_path: Path
) -> None:
    more = 'allowed_node_label_keys = ["zone"] allowed_pod_label_keys = ["app", "nope"] use_pod_uid_for_agent_id = true'
    attestor = make_attestor("k8s_psat", settings(cluster.write_kubeconfig(tmp_path / "k"), more))
    result = await attest(attestor, payload())
    values = {each.value for each in result.selectors if "label" in each.value}
    assert values == {"agent_node_label:zone:z1", "agent_pod_label:app:agent"}
    assert str(result.agent_id).endswith("/k8s_psat/main/pod/pod-uid-1")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "^failed to unmarshal data payload: no JSON"),
        (b"{}", "^missing cluster in attestation data$"),
        (b'{"cluster": "main"}', "^missing token in attestation data$"),
        (b'{"cluster": "main", "token": 1}', "token is no string"),
        (payload(cluster="other"), '^not configured for cluster "other"$'),
        (payload("x" * 70_000), "the message has"),
    ],
)
async def test_payloads_that_are_none(attestor: Any, attest: Any, cluster: Any, data: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await attest(attestor, data)
    assert cluster.asked == []


def _of_another_service_account(cluster: Any) -> None:
    cluster.tokens[TOKEN]["user"]["username"] = "system:serviceaccount:default:other"


def _of_the_account_in_another_namespace(cluster: Any) -> None:
    cluster.tokens[TOKEN]["user"]["username"] = "system:serviceaccount:kube-system:agent"


def _of_a_user_named_alike(cluster: Any) -> None:
    cluster.tokens[TOKEN]["user"]["username"] = "oidc:x:default:agent"


def _for_another_audience(cluster: Any) -> None:
    cluster.tokens[TOKEN]["audiences"] = ["vault"]


def _reviewed_by_who_knows_no_audiences(cluster: Any) -> None:
    cluster.tokens[TOKEN]["audiences"] = []


def _not_bound_to_a_pod(cluster: Any) -> None:
    cluster.tokens[TOKEN]["user"]["extra"] = {}


def _bound_to_two_pods(cluster: Any) -> None:
    cluster.tokens[TOKEN]["user"]["extra"]["authentication.kubernetes.io/pod-uid"] = ["a", "b"]


def _whose_pod_is_gone(cluster: Any) -> None:
    cluster.pods.clear()


def _whose_pods_name_was_taken_by_another(cluster: Any) -> None:
    cluster.pods["default/agent-x7k"]["metadata"]["uid"] = "pod-uid-2"


def _whose_pod_runs_nowhere(cluster: Any) -> None:
    cluster.pods["default/agent-x7k"]["spec"] = {}


def _whose_node_is_gone(cluster: Any) -> None:
    cluster.nodes.clear()


def _whose_node_has_no_uid(cluster: Any) -> None:
    cluster.nodes["node-1"]["metadata"] = {}


def _whose_node_has_a_uid_that_is_a_path(cluster: Any) -> None:
    cluster.nodes["node-1"]["metadata"]["uid"] = "../x"


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (
            _of_another_service_account,
            PermissionDenied,
            '^"default:other" is not an allowed service account for cluster',
        ),
        (_of_the_account_in_another_namespace, PermissionDenied, '^"kube-system:agent" is not an allowed'),
        (_of_a_user_named_alike, Internal, "^fail to parse username from token review status"),
        (_for_another_audience, Internal, r'error: \[invalid bearer token, token audiences \["vault"\] is invalid'),
        (_reviewed_by_who_knows_no_audiences, Internal, "did not validate audience"),
        (_not_bound_to_a_pod, Internal, "^fail to get pod name from token review status"),
        (_bound_to_two_pods, Internal, "^fail to get pod UID from token review status"),
        (_whose_pod_is_gone, Internal, '^fail to get pod from k8s API server .*HTTP 404: pods "agent-x7k" not found'),
        (_whose_pods_name_was_taken_by_another, PermissionDenied, "^the token's pod is gone"),
        (_whose_pod_runs_nowhere, Internal, "^fail to get node from k8s API server"),
        (_whose_node_is_gone, Internal, "^fail to get node from k8s API server"),
        (_whose_node_has_no_uid, Internal, "^node UID is empty"),
        (_whose_node_has_a_uid_that_is_a_path, Internal, "^failed to make spiffe id"),
    ],
)
async def test_tokens_that_are_refused(
    attestor: Any, attest: Any, cluster: Any, spoil: Any, kind: type[Exception], words: str
) -> None:
    spoil(cluster)
    with pytest.raises(kind, match=words):
        await attest(attestor, payload())


async def test_garbage_for_a_token(attestor: Any, attest: Any) -> None:
    with pytest.raises(Internal, match="an error: invalid bearer token"):
        await attest(attestor, payload("garbage"))


async def test_a_token_that_is_reviewed_and_not_authenticated(attestor: Any, attest: Any, cluster: Any) -> None:
    cluster.answer = (201, b'{"status": {"authenticated": false}}')
    with pytest.raises(PermissionDenied, match=r"^token not authenticated according to TokenReview API for cluster"):
        await attest(attestor, payload())


async def test_the_api_servers_own_audience(make_attestor: Any, attest: Any, cluster: Any, tmp_path: Path) -> None:
    cluster.tokens[TOKEN]["audiences"] = ["https://kubernetes.default.svc"]
    attestor = make_attestor("k8s_psat", settings(cluster.write_kubeconfig(tmp_path / "k"), "audience = []"))
    await attest(attestor, payload())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b'{"message": "etcd is gone"}'), "HTTP 500: etcd is gone"),
        ((302, b"{}"), "HTTP 302"),
        ((200, b"<html>"), "HTTP 200 without a JSON object"),
        ((200, b"[1]"), "HTTP 200 without a JSON object"),
        ((200, b"x" * 5_000_000), "more than"),
        ((200, b"[" * 200_000), "without a JSON object"),
        ((200, b'{"status": {"authenticated": "true"}}'), "not authenticated"),
        ((200, b'{"status": {"authenticated": true, "audiences": [1, {}], "user": 7}}'), "audience"),
    ],
)
async def test_clusters_that_answer_nonsense(
    attestor: Any, attest: Any, cluster: Any, answer: tuple[int, bytes], words: str
) -> None:
    cluster.answer = answer
    with pytest.raises((Internal, PermissionDenied), match=words):
        await attest(attestor, payload())


async def test_the_token_is_in_no_refusal(attestor: Any, attest: Any, cluster: Any) -> None:
    cluster.answer = (500, b'{"message": "no"}')
    with pytest.raises(Internal) as caught:
        await attest(attestor, payload("s3cr3t"))
    assert "s3cr3t" not in repr(caught.value)
    assert "s3cr3t" not in repr(ClusterToken("main", "s3cr3t"))


async def test_a_reviewer_that_may_not_review(make_attestor: Any, attest: Any, cluster: Any, tmp_path: Path) -> None:
    attestor = make_attestor("k8s_psat", settings(cluster.write_kubeconfig(tmp_path / "k", token="nobody")))
    with pytest.raises(Internal, match=r"HTTP 403: .* is forbidden"):
        await attest(attestor, payload())


class TestKubeconfig:
    def write(self, path: Path, document: Any) -> Path:
        path.write_text(yaml.safe_dump(document))
        return path

    async def test_yaml_is_read_at_each_call(self, cluster: Any, tmp_path: Path) -> None:
        path = self.write(tmp_path / "k", cluster.kubeconfig(token="old"))
        asked = Cluster(path)
        with pytest.raises(KubernetesError, match="403"):
            await asked.node("node-1")
        self.write(path, cluster.kubeconfig())
        assert (await asked.node("node-1")).uid == "node-uid-1"

    async def test_files_are_relative_to_it(self, cluster: Any, tmp_path: Path) -> None:
        document = cluster.kubeconfig(token="", tokenFile="token")
        (tmp_path / "token").write_text(f"{STAND_IN.REVIEWER}\n")
        (tmp_path / "ca.pem").write_bytes(cluster.certificate)
        del document["clusters"][0]["cluster"]["certificate-authority-data"]
        document["clusters"][0]["cluster"]["certificate-authority"] = "ca.pem"
        assert (await Cluster(self.write(tmp_path / "k", document)).node("node-1")).uid == "node-uid-1"

    async def test_an_impostor_learns_no_token(self, cluster: Any, tmp_path: Path) -> None:
        with STAND_IN.APIServerStandIn() as other:
            document = cluster.kubeconfig()
            document["clusters"][0]["cluster"]["server"] = other.url
            with pytest.raises(KubernetesError, match="certificate verify failed"):
                await Cluster(self.write(tmp_path / "k", document)).review("token", ())
            assert other.asked == []

    async def test_nobody_there(self, cluster: Any, tmp_path: Path) -> None:
        document = cluster.kubeconfig()
        document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        with pytest.raises(KubernetesError):
            await Cluster(self.write(tmp_path / "k", document)).node("n")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda d: d.pop("current-context"), "has no context None"),
            (lambda d: d.pop("clusters"), "has no cluster 'k'"),
            (lambda d: d.update(users=[]), "has no user 'u'"),
            (lambda d: d.update(contexts=[7]), "has no context"),
            (lambda d: d["users"][0]["user"].update(exec={"command": "x"}), "'exec' of users is not supported"),
            (lambda d: d["users"][0]["user"].update(token=7), "'token' of the kubeconfig must be a string"),
            (lambda d: d["users"][0]["user"].update(tokenFile="nowhere"), "unable to read"),
            (lambda d: d["users"][0]["user"].update({"client-key-data": "AAAA"}), "cannot be read"),
            (lambda d: d["clusters"][0]["cluster"].update({"insecure-skip-tls-verify": True}), "is not supported"),
            (lambda d: d["clusters"][0]["cluster"].update({"proxy-url": "http://p"}), "'proxy-url'"),
            (lambda d: d["clusters"][0]["cluster"].update(server="http://h"), "https alone"),
            (lambda d: d["clusters"][0]["cluster"].update(server="https://h:x"), "is no URL"),
            (lambda d: d["clusters"][0]["cluster"].update({"certificate-authority-data": "!"}), "no base64"),
            (lambda d: d["clusters"][0]["cluster"].update({"certificate-authority-data": "AAAA"}), "authority"),
        ],
    )
    def test_what_is_refused(self, cluster: Any, tmp_path: Path, spoil: Any, words: str) -> None:
        document = cluster.kubeconfig()
        spoil(document)
        with pytest.raises(ConfigurationError, match=words):
            api_server(self.write(tmp_path / "k", document))

    @pytest.mark.parametrize("content", [b"", b"- a", b"a: [", b"!!python/object:os.system x", b"\xff"])
    def test_files_that_are_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "k").write_bytes(content)
        with pytest.raises(ConfigurationError, match="is no kubeconfig"):
            api_server(tmp_path / "k")

    def test_outside_of_a_cluster(self) -> None:
        with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST"):
            api_server(None, {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('clusters = { "a" = {} }', 'cluster "a" configuration must have at least one service account allowed'),
        ('clusters = { "a b" = { service_account_allow_list = ["x:y"] } }', "becomes part of its agents' IDs"),
        ('clusters = { "a" = { service_account_allow_list = ["x:y"] kubeconfig = "k" } }', "unknown key 'kubeconfig'"),
        ('clusters = { "a" = { service_account_allow_list = ["x:y"] use_token_review_api = false } }', "always"),
        ("cluster = {}", "did you mean 'clusters'?"),
    ],
)
async def test_settings_that_are_refused(make_attestor: Any, data: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_attestor("k8s_psat", data)
    assert words in str(caught.value)
    assert caught.value.line == 1


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_written_is_read(cluster: str, token: str) -> None:
    assert ClusterToken.parse(ClusterToken(cluster, token).payload()) == ClusterToken(cluster, token)


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.integers()).map(lambda d: json.dumps(d).encode()))
def test_any_payload_is_read_or_refused(data: bytes) -> None:
    try:
        ClusterToken.parse(data)
    except AttestationMessageError:
        pass


@pytest.mark.skipif("ICP_TEST_KUBECONFIG" not in os.environ, reason="set ICP_TEST_KUBECONFIG to ask a real cluster")
async def test_a_real_cluster_refuses_garbage() -> None:
    with pytest.raises(KubernetesError, match="invalid bearer token"):
        await Cluster(Path(os.environ["ICP_TEST_KUBECONFIG"])).review("garbage", ("spire-server",))
