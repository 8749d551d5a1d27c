"""Nodes that attest by each attestor that runs here, in every cell: IDs, selectors, renewal, eviction, refusal."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import importlib.util
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from cryptography.x509.oid import NameOID

from authsec_sdk.workloadapi import WorkloadAPIClient

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]

PREFIX = "spiffe://interop.test/spire/agent/"
SERVER_PLUGINS = """
  NodeAttestor "x509pop" {{ plugin_data {{ ca_bundle_path = "{folder}/nodes/root.pem" }} }}
  NodeAttestor "sshpop" {{ plugin_data {{ cert_authorities_path = "{folder}/nodes/ssh_ca.pub" }} }}
  NodeAttestor "http_challenge" {{ plugin_data {{ {http} }} }}
  NodeAttestor "k8s_psat" {{ plugin_data {{ clusters = {{
    "main" = {{ service_account_allow_list = ["default:agent"] kube_config_file = "{folder}/nodes/kubeconfig"
      allowed_node_label_keys = ["zone"] allowed_pod_label_keys = ["app"] }}
  }} }} }}
"""
AGENT_CONF = """
agent {{
  server_address = "127.0.0.1"
  server_port = "{port}"
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/public/api.sock"
  data_dir = "{folder}/data"
  trust_bundle_path = "{folder}/bundle.pem"
  log_level = "DEBUG"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/data" }} }}
  NodeAttestor "{attestor}" {{ plugin_data {{ {data} }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


_NUMBERS = itertools.count(1)


def _stand_in() -> Any:
    source = Path(__file__).parents[2] / "server/nodeattestors/api_server.py"
    spec = importlib.util.spec_from_file_location("api_server_stand_in", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Nodes:
    """A cell whose server knows all attestors, and agents that come and go."""

    cell: Any
    folder: Path
    certificates: dict[str, x509.Certificate]

    @contextmanager
    def agent(self, attestor: str, data: str, name: str = "") -> Iterator[Path]:
        """Run an agent of the cell's kind; give its folder, where its log is."""
        folder = self.folder / (name or attestor)
        for part, mode in (("public", 0o755), ("data", 0o700)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part).chmod(mode)
        (folder / "bundle.pem").write_text(self.cell.server_cli("bundle", "show").stdout)
        settings = {"port": self.cell.port, "trust_domain": self.cell.trust_domain, "folder": folder}
        (folder / "agent.conf").write_text(AGENT_CONF.format(attestor=attestor, data=data, **settings))
        command = [*self.cell.agent, "run", "-config", f"{folder}/agent.conf"]
        with (folder / "agent.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield folder
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def records(self, attestor: str) -> list[Any]:
        return [
            each
            for each in self.cell.server_json("agent", "list").get("agents", [])
            if each["attestation_type"] == attestor
        ]

    def attested(self, attestor: str, folder: Path) -> Any:
        """Wait for the agent's record; tell its log if it never comes."""
        self.until(folder, lambda: self.records(attestor))
        (record,) = self.records(attestor)
        return record

    def until(self, folder: Path, done: Any) -> Any:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if answer := done():
                return answer
            time.sleep(0.25)
        return pytest.fail(f"{self.cell.name}: {self.log(folder)[-3000:]}\n{self.cell.log('server')[-3000:]}")

    def serves(self, folder: Path, record: Any) -> None:
        """A workload of this agent gets its identity."""
        agent = f"spiffe://{record['id']['trust_domain']}{record['id']['path']}"
        spiffe_id = f"spiffe://{self.cell.trust_domain}/workload-{next(_NUMBERS)}-of-{folder.name}"
        selector = f"unix:uid:{os.getuid()}"
        self.cell.server_cli("entry", "create", "-parentID", agent, "-spiffeID", spiffe_id, "-selector", selector)
        self.until(folder, lambda: spiffe_id in _identities(folder))

    @staticmethod
    def log(folder: Path) -> str:
        return (folder / "agent.log").read_text(errors="replace")

    def selectors(self, record: Any) -> set[str]:
        return {f"{each['type']}:{each['value']}" for each in record["selectors"]}


def _identities(folder: Path) -> set[str]:
    async def ask() -> set[str]:
        async with WorkloadAPIClient(f"unix://{folder}/public/api.sock") as client:
            context = await asyncio.wait_for(client.fetch_x509_context(), 10)
            return {str(svid.id) for svid in context.svids}

    try:
        return asyncio.run(ask())
    except Exception:  # whatever it is, the caller polls on
        return set()


def _node_pki(folder: Path) -> dict[str, x509.Certificate]:
    """A root, and a node's key and certificate below it."""

    def sign(name: str, key: Any, issuer: str, by: Any, *, ca: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(0xABC)
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
        )
        if not ca:
            names = [x509.UniformResourceIdentifier("x509pop://interop.test/rack/7")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(by, SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    root = sign("Nodes", root_key, "Nodes", root_key, ca=True)
    leaf = sign("node-7", key, "Nodes", root_key, ca=False)
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "node.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"root": root, "node": leaf}


def _ssh_pki(folder: Path) -> None:
    authority = ed25519.Ed25519PrivateKey.generate()
    (folder / "ssh_ca.pub").write_bytes(authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    for name, key in (
        ("ssh_rsa", rsa.generate_private_key(65537, 2048)),
        ("ssh_ed25519", ed25519.Ed25519PrivateKey.generate()),
    ):
        builder = SSHCertificateBuilder().public_key(key.public_key()).type(SSHCertificateType.HOST).serial(1)
        builder = builder.key_id(b"node").valid_principals([b"node.interop.test"]).valid_after(0)
        certificate = builder.valid_before(2**64 - 1).sign(authority)
        (folder / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (folder / f"{name}-cert.pub").write_bytes(certificate.public_bytes())


@pytest.fixture(scope="module")
def nodes(cell: Any) -> Iterator[Nodes]:
    folder = cell.folder / "nodes"
    folder.mkdir()
    certificates = _node_pki(folder)
    _ssh_pki(folder)
    stand_in = _stand_in()
    with stand_in.APIServerStandIn() as cluster:
        cluster.write_kubeconfig(folder / "kubeconfig")
        (folder / "token").write_text(stand_in.TOKEN)
        (folder / "garbage").write_text("garbage")
        cell.stop("agent")
        cell.stop("server")
        # Upstream calls any address; ours must be told that it may call its own machine.
        http = 'allowed_networks = ["127.0.0.1/32"]' if cell.server_side == "ours" else ""
        plugins = SERVER_PLUGINS.format(folder=cell.folder, http=http)
        conf = (cell.folder / "server.conf").read_text()
        conf = conf.replace("\nplugins {\n", f"\nplugins {{\n{plugins}").replace(
            'agent_ttl = "10m"', 'agent_ttl = "25s"'
        )
        (cell.folder / "server.conf").write_text(conf)
        cell.start_server()
        yield Nodes(cell, folder, certificates)


@pytest.fixture(scope="module")
def x509pop(nodes: Nodes) -> str:
    return f'private_key_path = "{nodes.folder}/node.key" certificate_path = "{nodes.folder}/node.pem"'


def test_attests_by_x509pop(nodes: Nodes, x509pop: str) -> None:
    with nodes.agent("x509pop", x509pop) as folder:
        record = nodes.attested("x509pop", folder)
        sha1 = {name: each.fingerprint(SHA1()).hex() for name, each in nodes.certificates.items()}
        assert record["id"]["path"] == f"/spire/agent/x509pop/{sha1['node']}"
        assert nodes.selectors(record) == {
            "x509pop:subject:cn:node-7",
            f"x509pop:ca:fingerprint:{sha1['root']}",
            "x509pop:serialnumber:0abc",
            "x509pop:san:rack:7",
        }
        assert record["can_reattest"]
        nodes.serves(folder, record)


def test_renews_by_attesting_again(nodes: Nodes, x509pop: str) -> None:
    with nodes.agent("x509pop", x509pop) as folder:
        before = nodes.attested("x509pop", folder)["x509svid_serial_number"]
        seen = {before}

        def renewed_twice() -> bool:
            seen.update(each["x509svid_serial_number"] for each in nodes.records("x509pop"))
            return len(seen) > 2

        nodes.until(folder, renewed_twice)
        assert nodes.cell.server_json("agent", "list")["agents"], "its record stays one"


def test_evicted_comes_back(nodes: Nodes, x509pop: str) -> None:
    with nodes.agent("x509pop", x509pop) as folder:
        record = nodes.attested("x509pop", folder)
        agent = f"spiffe://interop.test{record['id']['path']}"
        nodes.serves(folder, record)
        nodes.cell.server_cli("agent", "evict", "-spiffeID", agent)
        nodes.until(folder, lambda: nodes.records("x509pop"))
        nodes.serves(folder, record)


def test_another_key_for_the_certificate_is_refused(nodes: Nodes) -> None:
    """Upstream's agent looks at the files itself, so that the impostor is one with a certificate of another root."""
    folder = nodes.folder / "impostor-pki"
    folder.mkdir()
    _node_pki(folder)
    data = f'private_key_path = "{folder}/node.key" certificate_path = "{folder}/node.pem"'
    refusal = "nodeattestor(x509pop): certificate verification failed"
    with nodes.agent("x509pop", data, "impostor") as agent:
        nodes.until(agent, lambda: refusal in nodes.log(agent))


def test_attests_by_sshpop_with_rsa(nodes: Nodes) -> None:
    _attests_by_sshpop(nodes, "rsa")


def test_attests_by_sshpop_with_ed25519(nodes: Nodes) -> None:
    _attests_by_sshpop(nodes, "ed25519")


def _attests_by_sshpop(nodes: Nodes, kind: str) -> None:
    certificate = nodes.folder / f"ssh_{kind}-cert.pub"
    data = f'host_key_path = "{nodes.folder}/ssh_{kind}" host_cert_path = "{certificate}"'
    digest = hashlib.sha256(base64.b64decode(certificate.read_bytes().split()[1])).digest()
    wanted = "/spire/agent/sshpop/" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with nodes.agent("sshpop", data, f"sshpop-{kind}") as folder:
        nodes.until(folder, lambda: wanted in {each["id"]["path"] for each in nodes.records("sshpop")})
        (record,) = (each for each in nodes.records("sshpop") if each["id"]["path"] == wanted)
        assert record["can_reattest"]
        nodes.serves(folder, record)


def test_attests_by_k8s_psat(nodes: Nodes) -> None:
    with nodes.agent("k8s_psat", f'cluster = "main" token_path = "{nodes.folder}/token"') as folder:
        record = nodes.attested("k8s_psat", folder)
        assert record["id"]["path"] == "/spire/agent/k8s_psat/main/node-uid-1"
        assert nodes.selectors(record) == {
            "k8s_psat:cluster:main",
            "k8s_psat:agent_ns:default",
            "k8s_psat:agent_sa:agent",
            "k8s_psat:agent_pod_name:agent-x7k",
            "k8s_psat:agent_pod_uid:pod-uid-1",
            "k8s_psat:agent_node_ip:172.16.10.1",
            "k8s_psat:agent_node_name:node-1",
            "k8s_psat:agent_node_uid:node-uid-1",
            "k8s_psat:agent_node_label:zone:z1",
            "k8s_psat:agent_pod_label:app:agent",
        }
        assert record["can_reattest"]
        nodes.serves(folder, record)


def test_garbage_for_a_cluster_token_is_refused(nodes: Nodes) -> None:
    refusal = "token review API response contains an error: invalid bearer token"
    with nodes.agent("k8s_psat", f'cluster = "main" token_path = "{nodes.folder}/garbage"', "garbage-token") as folder:
        nodes.until(folder, lambda: refusal in nodes.log(folder))


def test_attests_by_http_challenge_and_a_name_counts_once(nodes: Nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data = f'hostname = "127.0.0.1" agentname = "node-7" port = {port}'
    with nodes.agent("http_challenge", data) as folder:
        record = nodes.attested("http_challenge", folder)
        assert record["id"]["path"] == "/spire/agent/http_challenge/127.0.0.1"
        assert nodes.selectors(record) == {"http_challenge:hostname:127.0.0.1"}
        assert not record.get("can_reattest")
        nodes.serves(folder, record)
        refusal = "nodeattestor(http_challenge): attestation data has already been used to attest an agent"
        with nodes.agent("http_challenge", 'hostname = "127.0.0.1"', "second-of-its-name") as second:
            nodes.until(second, lambda: refusal in nodes.log(second))
