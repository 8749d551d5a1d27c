"""What `bench.envoy_pair` measures: our server and agent, two Python workloads for each loop, and two Envoys on SDS.

Envoys and workloads are told apart by `unix:path`. All of them get their certificates from the same agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from authsec_sdk.proto.spire import entry_grpc, entry_pb2, localauthority_grpc, localauthority_pb2, types_pb2
from authsec_sdk.rpc import Channel
from bench._heap import KEEPING
from demo import control_plane
from demo.processes import Processes
from tests.envoy import Envoy, address, cluster, envoy, envoy_binary, http_listener, unused_port

HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# How requests go from one Envoy to the other; each way is a listener of both.
WAYS = ("http", "tcp", "http-new", "http-new-resumed")
_TTL = 3600
# Workloads keep their heap; two of each kind are as glibc has them, for the p50 beside it.
AS_IT_COMES = ", heap as it comes"
LOOPS = ("asyncio", "uvloop", f"asyncio{AS_IT_COMES}", f"uvloop{AS_IT_COMES}")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, by the kernel's clock of it (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


class Peer:
    """A Python workload, `bench._peer`, and what it is told."""

    def __init__(self, plane: control_plane.ControlPlane, role: str, loop: str) -> None:
        interpreter = plane.interpreters["payments" if role == "server" else "frontend"]
        uvloop, heap = loop.startswith("uvloop"), {} if loop.endswith(AS_IT_COMES) else KEEPING
        name = f"{role}-{loop}".replace(" ", "-").replace(",", "")
        command = [str(interpreter), "-m", "bench._peer", role, str(plane.folder), name]
        self._log = (plane.folder / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [*command, *(["--uvloop"] if uvloop else [])],
            env={"PATH": os.environ.get("PATH", ""), **heap, **plane.workload_env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.said = self.answer()

    def tell(self, do: str, **what: Any) -> None:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer to it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a workload ended:\n{Path(self._log.name).read_text()[-4000:]}")
        return json.loads(line)

    def ask(self, do: str, **what: Any) -> Any:
        """Give a command and wait."""
        self.tell(do, **what)
        return self.answer()

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # in the middle of something: the benchmark failed
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()


def tls(*, server: bool, resumption: bool) -> dict[str, Any]:
    """Return the transport socket of docs/how-to/envoy.md; without resumption every handshake is a whole one."""
    agent = {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
        },
    }
    peer = "spiffe://demo.example/envoy-frontend" if server else "spiffe://demo.example/envoy-payments"
    context: dict[str, Any] = {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": agent}],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}]
                },
                "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": agent},
            },
        }
    }
    if server:
        context["require_client_certificate"] = True
        context["disable_stateless_session_resumption"] = not resumption
    elif not resumption:
        context["max_session_keys"] = 0
    kind = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{'Down' if server else 'Up'}streamTlsContext"
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": kind, **context}}


def _tcp_listener(port: int, to_cluster: str, transport_socket: dict[str, Any] | None = None) -> dict[str, Any]:
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": to_cluster,
        "cluster": to_cluster,
    }
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    if transport_socket is not None:
        chain["transport_socket"] = transport_socket
    return {"name": f"listener-{port}", "address": address(port), "filter_chains": [chain]}


def _http1(requests: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "@type": f"type.googleapis.com/{HTTP}",
        "explicit_http_config": {"http_protocol_options": {}},
    }
    if requests is not None:
        options["common_http_protocol_options"] = {"max_requests_per_connection": requests}
    return {"typed_extension_protocol_options": {HTTP: options}}


def _configuration(
    name: str, socket: str, listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]
) -> dict[str, Any]:
    agent = {
        "name": "agent",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            HTTP: {
                "@type": f"type.googleapis.com/{HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "agent",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
        },
    }
    return {
        "node": {"id": name, "cluster": name},
        "static_resources": {"listeners": listeners, "clusters": [*clusters, agent]},
    }


class Fleet:
    """All of it, running; `ports` are those where the client-side Envoy listens for the workloads of a loop, by way."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise

    def _begin(self) -> None:
        self._runner = self._stack.enter_context(asyncio.Runner())
        self._folder = Path(tempfile.mkdtemp(prefix="icp-bench-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o755)
        processes = Processes(self._folder)
        self._stack.callback(lambda: self._runner.run(processes.stop()))
        self.plane = self._runner.run(control_plane.start(self._folder, processes, svid_ttl=_TTL, by_path=True))
        self._admin = f"{self._folder}/server/private/api.sock"
        self._binaries = {name: self._copy(name) for name in ("payments", "frontend")}
        self.call(self._register)
        time.sleep(2)  # the agent hears of the entries
        self.servers = {loop: self._peer("server", loop) for loop in LOOPS}
        self.clients = {loop: self._peer("client", loop) for loop in LOOPS}
        self.ports: dict[tuple[str, str], int] = {}
        self.idle_envoy = self._idle()
        self.envoys = self._start()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def folder(self) -> Path:
        """Where files of the run are."""
        return self._folder

    def _peer(self, role: str, loop: str) -> Peer:
        peer = Peer(self.plane, role, loop)
        self._stack.callback(peer.close)
        return peer

    def _copy(self, name: str) -> Path:
        copy, source = self._folder / f"envoy-{name}", envoy_binary().resolve()
        try:
            os.link(source, copy)
        except OSError:  # another file system
            shutil.copy(source, copy)
        return copy

    def call(self, work: Any) -> Any:
        """Run a coroutine function with a channel to the server's admin socket."""

        async def connected() -> Any:
            async with Channel.unix(self._admin) as channel:
                return await work(channel)

        return self._runner.run(connected())

    async def _register(self, channel: Channel) -> None:
        entries = [
            types_pb2.Entry(
                spiffe_id=types_pb2.SPIFFEID(trust_domain="demo.example", path=f"/envoy-{name}"),
                parent_id=types_pb2.SPIFFEID(trust_domain="demo.example", path="/node"),
                selectors=[types_pb2.Selector(type="unix", value=f"path:{binary}")],
                x509_svid_ttl=_TTL,
            )
            for name, binary in self._binaries.items()
        ]
        reply = await entry_grpc.EntryStub(channel).BatchCreateEntry(
            entry_pb2.BatchCreateEntryRequest(entries=entries), timeout=30
        )
        assert all(result.status.code == 0 for result in reply.results), reply

    async def rotate_svids(self, channel: Channel) -> None:
        """Have all workloads get new certificates: their entries change, by a second of lifetime."""
        stub = entry_grpc.EntryStub(channel)
        listed = await stub.ListEntries(entry_pb2.ListEntriesRequest(), timeout=30)
        workloads = [entry for entry in listed.entries if entry.x509_svid_ttl]  # the other is the node's
        changed = [types_pb2.Entry(id=entry.id, x509_svid_ttl=entry.x509_svid_ttl - 1) for entry in workloads]
        mask = types_pb2.EntryMask(x509_svid_ttl=True)
        reply = await stub.BatchUpdateEntry(
            entry_pb2.BatchUpdateEntryRequest(entries=changed, input_mask=mask), timeout=30
        )
        assert all(result.status.code == 0 for result in reply.results), reply

    async def prepare_ca(self, channel: Channel) -> None:
        """Make the next authority and publish it."""
        request = localauthority_pb2.PrepareX509AuthorityRequest()
        await localauthority_grpc.LocalAuthorityStub(channel).PrepareX509Authority(request, timeout=30)

    async def activate_ca(self, channel: Channel) -> None:
        """Sign with it, and have what the one before signed replaced."""
        stub = localauthority_grpc.LocalAuthorityStub(channel)
        state = await stub.GetX509AuthorityState(localauthority_pb2.GetX509AuthorityStateRequest(), timeout=30)
        prepared, old = state.prepared.authority_id, state.active.authority_id
        await stub.ActivateX509Authority(
            localauthority_pb2.ActivateX509AuthorityRequest(authority_id=prepared), timeout=30
        )
        await stub.TaintX509Authority(localauthority_pb2.TaintX509AuthorityRequest(authority_id=old), timeout=30)

    async def revoke_ca(self, channel: Channel) -> None:
        """Take the one before out of the bundle."""
        stub = localauthority_grpc.LocalAuthorityStub(channel)
        state = await stub.GetX509AuthorityState(localauthority_pb2.GetX509AuthorityStateRequest(), timeout=30)
        request = localauthority_pb2.RevokeX509AuthorityRequest(authority_id=state.old.authority_id)
        await stub.RevokeX509Authority(request, timeout=30)

    @property
    def _socket(self) -> str:
        return self.plane.workload_api.removeprefix("unix://")

    def _idle(self) -> float:
        """Return the resident memory of an Envoy with one listener and its secrets, before any traffic, in MiB."""
        listeners = [http_listener(unused_port(), "there")]
        clusters = [cluster("there", unused_port(), tls(server=False, resumption=False), **_http1(None))]
        config = _configuration("idle", self._socket, listeners, clusters)
        with envoy(config, self._folder, binary=self._binaries["frontend"]) as running:
            until(lambda: serials(running))
            time.sleep(3)
            status = Path(f"/proc/{running.process.pid}/status").read_text()
            return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def _start(self) -> tuple[Envoy, Envoy]:
        listeners: dict[str, list[Any]] = {"payments": [], "frontend": []}
        clusters: dict[str, list[Any]] = {"payments": [], "frontend": []}
        for loop, server in self.servers.items():
            clusters["payments"].append(cluster(loop, server.said["plain"]))
            for way in WAYS:
                name = f"{way} {loop}"
                self.ports[loop, way] = plain = unused_port()
                mutual = unused_port()
                resumption = way.endswith("resumed")
                make = _tcp_listener if way == "tcp" else http_listener
                listeners["payments"].append(make(mutual, loop, tls(server=True, resumption=resumption)))
                listeners["frontend"].append(make(plain, name))
                options = {} if way == "tcp" else _http1(1 if way.startswith("http-new") else None)
                upstream = tls(server=False, resumption=resumption)
                clusters["frontend"].append(cluster(name, mutual, upstream, **options))
        started = [
            self._stack.enter_context(
                envoy(
                    _configuration(name, self._socket, listeners[name], clusters[name]),
                    self._folder,
                    binary=self._binaries[name],
                )
            )
            for name in ("payments", "frontend")
        ]
        for each in started:
            until(lambda each=each: serials(each))
        return started[0], started[1]

    def workload(self, way: str, *arguments: str) -> dict[str, float]:
        """Run `bench._workload` as the client and return its memory."""
        command = [str(self.plane.interpreters["frontend"]), "-m", "bench._workload", way, *arguments]
        done = subprocess.run(command, env={**self.plane.workload_env}, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    def now(self) -> tuple[str, ...]:
        """Return what each workload has: the Python ones' serial numbers and authorities, and the Envoys' serials."""
        mine = [(self._folder / f"{role}-asyncio.now").read_text() for role in ("server", "client")]
        return (*mine, *(str(sorted(serials(each))) for each in self.envoys))


def serials(running: Envoy) -> frozenset[str]:
    """Return the serial numbers of the certificates an Envoy serves with."""
    certificates = json.loads(running.get("/certs"))["certificates"]
    return frozenset(shown["serial_number"] for each in certificates for shown in each["cert_chain"])


def until(happened: Any, seconds: float = 60) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit("what the benchmark waits for does not happen")
        time.sleep(0.05)
