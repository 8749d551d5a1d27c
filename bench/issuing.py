"""X509-SVIDs signed per CPU-second of the server: the signing alone, and whole calls beside upstream's server.

Upstream's `spire-server` is the one SPIRE_SERVER_BIN names. Both run with SQLite, keys in memory and no rate limits,
and are asked by the same client: `MintX509SVID` over the admin socket, one SVID a call and eight calls at once, and
`BatchNewX509SVID` of 400 over mutual TLS by an agent that joined with a token. Only the server's CPU time counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.authz import authorize_id
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, svid_grpc, svid_pb2, types_pb2
from authsec_sdk.rpc import Channel
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.tls import mtls_client_context, tls_client_context
from bench import _results
from bench._paired import compare
from icp_server.ca.authority import SigningAuthority, self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.issued import LeafRequest
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number

BATCH_CLAIM, SINGLE_CLAIM = 1.9, 1.0
UPSTREAM_BATCH, UPSTREAM_SINGLE = 1613, 1480  # SVIDs per CPU-second of spire-server 1.15.3 on the machine of the design
BATCH, IN_FLIGHT = 400, 8
TD = TrustDomain("bench.example")
NODE = SpiffeID.from_path(TD, "/node")
ROOT = Path(__file__).resolve().parent.parent

_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  trust_domain = "{td}"
  socket_path = "{folder}/private/api.sock"
  data_dir = "{folder}/data"
  log_level = "WARN"
  ratelimit {{
    attestation = false
    signing = false
  }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{folder}/data/datastore.sqlite3"
    }}
  }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""


def csr(key: ec.EllipticCurvePrivateKey, *uris: SpiffeID) -> bytes:
    """Make a signing request as spire-agent does."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = [x509.UniformResourceIdentifier(str(uri)) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def requests(count: int) -> list[bytes]:
    """Make requests of different keys, each naming an ID."""
    return [csr(ec.generate_private_key(ec.SECP256R1()), SpiffeID.from_path(TD, f"/w{n}")) for n in range(count)]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, by the kernel's clock of it (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


class Server:
    """A server with an agent that joined it and may ask for 400 entries' SVIDs."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._folder = Path(tempfile.mkdtemp(prefix="icp-bench-", dir="/tmp"))
        self._csrs = requests(BATCH)
        self._channels: list[Channel] = []

    def __enter__(self) -> Self:
        for part in ("private", "data"):
            (self._folder / part).mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        (self._folder / "server.conf").write_text(_CONF.format(port=self._port, td=TD, folder=self._folder))
        with (self._folder / "log").open("wb") as log:
            command = [*self._command, "run", "-config", f"{self._folder}/server.conf"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            for _ in range(150):
                if self._cli("healthcheck", check=False).returncode == 0:
                    break
                time.sleep(0.2)
            else:
                raise SystemExit(f"{self._command[0]} does not start:\n{(self._folder / 'log').read_text()}")
            self._runner = asyncio.Runner()
            self._runner.run(self._join())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if hasattr(self, "_runner"):
            for channel in self._channels:
                self._runner.run(channel.close())
            self._runner.close()
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._folder)

    def _cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *words, "-socketPath", f"{self._folder}/private/api.sock"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check, cwd=ROOT)

    async def _join(self) -> None:
        """Register the entries, attest, and open the two channels."""
        entries = [
            {
                "parent_id": str(NODE),
                "spiffe_id": str(SpiffeID.from_path(TD, f"/w{n}")),
                "selectors": [{"type": "unix", "value": f"uid:{n}"}],
                "entry_id": f"e{n}",
            }
            for n in range(BATCH)
        ]
        (self._folder / "entries.json").write_text(json.dumps({"entries": entries}))
        self._cli("entry", "create", "-data", f"{self._folder}/entries.json")
        bundle = X509Bundle.parse_pem(TD, self._cli("bundle", "show").stdout.encode())
        token = self._cli("token", "generate", "-spiffeID", str(NODE)).stdout.split("Token:")[1].split()[0]
        await asyncio.sleep(6)  # upstream's server sees new entries only with the next reload of its cache

        bundles, to_server = BundleSet.of(bundle), authorize_id(server_id(TD))
        key = ec.generate_private_key(ec.SECP256R1())
        context = tls_client_context(X509ContextHolder(X509Context((), bundles)), to_server, alpn=("h2",))
        async with Channel.tcp("127.0.0.1", self._port, ssl=context) as channel:
            svid = await _attest(channel, token, key)
        holder = X509ContextHolder(X509Context((svid,), bundles))
        self._agent = Channel.tcp("127.0.0.1", self._port, ssl=mtls_client_context(holder, to_server, alpn=("h2",)))
        self._admin = Channel.unix(f"{self._folder}/private/api.sock")
        self._channels = [self._agent, self._admin]

    def _measured(self, work: Callable[[], Any]) -> float:
        """Run work that returns how many SVIDs it got; return how many that is per CPU-second of the server."""
        begun = cpu_seconds(self._process.pid)
        count = self._runner.run(work())
        return float(count / (cpu_seconds(self._process.pid) - begun))

    def single(self, calls: int) -> float:
        """Mint SVIDs one by one."""

        async def caller(mine: int) -> None:
            for number in range(mine):
                request = svid_pb2.MintX509SVIDRequest(csr=self._csrs[number % BATCH], ttl=3600)
                reply = await svid_grpc.SVIDStub(self._admin).MintX509SVID(request, timeout=60)
                assert reply.svid.cert_chain

        async def work() -> int:
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(caller(calls // IN_FLIGHT))
            return calls // IN_FLIGHT * IN_FLIGHT

        return self._measured(work)

    def batch(self, calls: int) -> float:
        """Have batches signed."""
        params = [svid_pb2.NewX509SVIDParams(entry_id=f"e{n}", csr=each) for n, each in enumerate(self._csrs)]
        request = svid_pb2.BatchNewX509SVIDRequest(params=params)

        async def work() -> int:
            for _ in range(calls):
                reply = await svid_grpc.SVIDStub(self._agent).BatchNewX509SVID(request, timeout=60)
                assert len(reply.results) == BATCH
                assert all(result.status.code == 0 for result in reply.results), reply.results[0].status
            return calls * BATCH

        return self._measured(work)


async def _attest(channel: Channel, token: str, key: ec.EllipticCurvePrivateKey) -> X509SVID:
    data = types_pb2.AttestationData(type="join_token", payload=token.encode())
    params = agent_pb2.AttestAgentRequest.Params(data=data, params=agent_pb2.AgentX509SVIDParams(csr=csr(key)))
    async with agent_grpc.AgentStub(channel).AttestAgent.open(timeout=60) as stream:
        await stream.send_message(agent_pb2.AttestAgentRequest(params=params), end=True)
        reply = await stream.recv_message()
    assert reply is not None
    return X509SVID(tuple(x509.load_der_x509_certificate(link) for link in reply.result.svid.cert_chain), key)


def signing_alone(rounds: int) -> None:
    """Print what the signer does by itself, request checked and certificate made."""

    def clock() -> datetime:
        return datetime.now(UTC)

    key = generate_private_key(KeyType.EC_P256)
    template = ca_template(TD, clock(), timedelta(days=1), CASubject(), new_serial_number())
    certificate, authority_id = self_signed(template, key)
    record = AuthorityRecord(authority_id, "A", Status.ACTIVE, clock(), template.not_after, certificate)
    authority = SigningAuthority.of(record, key)
    assert authority is not None
    signer = SVIDSigner(TD, Lifetimes(), clock)
    signer.activate(authority)
    leaves = [LeafRequest(each, SpiffeID.from_path(TD, f"/w{n}")) for n, each in enumerate(requests(BATCH))]
    speeds = []
    for _ in range(rounds):
        begun = time.process_time()
        results = asyncio.run(signer.sign(leaves))
        speeds.append(BATCH / (time.process_time() - begun))
        assert all(result.ok for result in results)
    speeds.sort()
    middle = f"{speeds[len(speeds) // 2]:.0f} [{speeds[0]:.0f}, {speeds[-1]:.0f}] SVIDs per CPU-second"
    _results.plain("signing alone", middle)


def main() -> int:
    """Measure and print; return 1 where a claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=12)
    arguments.add_argument("--calls", type=int, default=2000, help="SVIDs minted one by one, per round")
    arguments.add_argument("--batches", type=int, default=10, help="batches of 400, per round")
    options = arguments.parse_args()
    signing_alone(options.rounds)
    with Server([sys.executable, "-m", "icp_server"]) as ours:
        if not (upstream := os.environ.get("SPIRE_SERVER_BIN")):
            ours.single(options.calls), ours.batch(options.batches)
            for name, speed, known in (
                ("one by one", ours.single(options.calls), UPSTREAM_SINGLE),
                (f"batches of {BATCH}", ours.batch(options.batches), UPSTREAM_BATCH),
            ):
                beside = f"spire-server on another machine: {known}"
                _results.plain(f"SVIDs {name}", f"{speed:.0f} per CPU-second, undecided", beside)
            print("set SPIRE_SERVER_BIN to have spire-server run beside it")
            return 0
        with Server([upstream]) as theirs:
            single = compare(
                "SVIDs one by one", lambda: ours.single(options.calls), lambda: theirs.single(options.calls),
                rounds=options.rounds,
            )  # fmt: skip
            met = single.report(at_least=SINGLE_CLAIM, unit="SVIDs per CPU-second")
            batch = compare(
                f"SVIDs in batches of {BATCH}",
                lambda: ours.batch(options.batches), lambda: theirs.batch(options.batches),
                rounds=options.rounds,
            )  # fmt: skip
            return 0 if batch.report(at_least=BATCH_CLAIM, unit="SVIDs per CPU-second") and met else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("issuing", main))
