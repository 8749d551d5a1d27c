"""Two real Envoys and our SDK in mutual TLS, with identities from each cell's agent over Envoy's own protocol.

The Envoys run the configurations of docs/how-to/envoy.md.
"""

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.proto.envoy import discovery_pb2, sds_grpc
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.workloadapi import X509Source
from tests.envoy import Envoy, envoy, envoy_binary, unused_port

UPSTREAM = "upstream"
pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PAGE = (Path(__file__).parents[3] / "docs/how-to/envoy.md").read_text()
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
PATIENCE = 120.0
Start = Callable[..., Any]


def configuration(name: str, cell: Any, **ports: int) -> Any:
    """Return one of the page's configurations, with the cell's names and this machine's ports and sockets."""
    texts = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (text,) = [text for text in texts if f"node: {{id: {name}," in text]
    text = text.replace("example.org", cell.trust_domain).replace("0.0.0.0", "127.0.0.1")
    text = text.replace("/run/icp-agent/public/api.sock", cell.workload_api.removeprefix("unix://"))
    for documented, port in ports.items():
        text = text.replace(f"port_value: {documented[1:]}}}", f"port_value: {port}}}")
    return yaml.safe_load(text)


class Application(http.server.BaseHTTPRequestHandler):
    """Tells who called, by the header that Envoy adds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(self.headers.get("x-forwarded-client-cert")).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def application() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def binaries() -> Iterator[dict[str, Path]]:
    """Give each Envoy a path of its own: two of one user are told apart by nothing else."""
    source = envoy_binary()
    with tempfile.TemporaryDirectory(prefix="envoys-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        copies = {name: Path(folder, f"envoy-{name}") for name in ("payments", "frontend")}
        for copy in copies.values():
            try:
                os.link(source.resolve(), copy)
            except OSError:  # another file system
                shutil.copy(source, copy)
        yield copies


@pytest.fixture(scope="module")
def partner() -> TestCA:
    return TestCA("partner.test")


@pytest.fixture(scope="module")
def world(cell: Any, binaries: dict[str, Path], partner: TestCA) -> Any:
    """Register both Envoys and this process, and make the cell's trust domain believe the partner's bundle."""
    document = cell.folder / "partner.pem"
    document.write_bytes(partner.bundle().to_pem())
    cell.server_cli("bundle", "set", "-id", "spiffe://partner.test", "-path", str(document))
    federates = ("-federatesWith", "spiffe://partner.test")
    for name, binary in binaries.items():
        more = federates if name == "payments" else ()
        cell.register(f"/{name}", *more, "-x509SVIDTTL", "20", selector=f"unix:path:{binary}")
    cell.register("/sdk", *federates, selector=f"unix:path:{Path('/proc/self/exe').readlink()}")
    cell.until("the agent knows the entries", lambda: told(cell, "default"))
    return cell


@pytest.fixture(scope="module")
def source(world: Any) -> Iterator[X509Source]:
    with X509Source(world.workload_api) as source:
        source.wait(timeout=60)
        yield source


@contextmanager
def serving(cell: Any, binaries: dict[str, Path], application: int, *, delta: bool = False) -> Iterator[Any]:
    """Run both Envoys; yield them, with the ports of the mutual TLS listener and of the plain one."""
    mutual, plain = unused_port(), unused_port()
    payments = configuration("payments", cell, p8443=mutual, p8080=application)
    frontend = configuration("frontend", cell, p8443=mutual, p9090=plain)
    # Who may come in, beside frontend: this process, and somebody of the partner's.
    tls = payments["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"]
    matchers = tls["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    for id_ in (f"spiffe://{cell.trust_domain}/sdk", "spiffe://partner.test/caller"):
        matchers["match_typed_subject_alt_names"].append({"san_type": "URI", "matcher": {"exact": id_}})
    # Each request a connection and a handshake of its own, so that each meets the certificates of its moment.
    (cluster, _) = frontend["static_resources"]["clusters"]
    cluster["typed_extension_protocol_options"] = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }
    if delta:
        payments, frontend = (
            json.loads(json.dumps(each).replace('"api_type": "GRPC"', '"api_type": "DELTA_GRPC"'))
            for each in (payments, frontend)
        )
    with (
        tempfile.TemporaryDirectory(prefix="envoy-", dir="/tmp") as folder,
        envoy(payments, Path(folder), binary=binaries["payments"]) as first,
        envoy(frontend, Path(folder), binary=binaries["frontend"]) as second,
    ):
        yield first, second, mutual, plain


@pytest.fixture(scope="module")
def envoys(world: Any, binaries: dict[str, Path], application: int) -> Iterator[Any]:
    with serving(world, binaries, application) as running:
        yield running


def get(port: int) -> tuple[int, str]:
    """Ask Envoy's plain listener, as the application beside it does."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def serials(running: Envoy) -> frozenset[str]:
    certificates = json.loads(running.get("/certs"))["certificates"]
    return frozenset(shown["serial_number"] for each in certificates for shown in each["cert_chain"])


def call(cell: Any, method: str, *requests: Any) -> Any:
    """Call SDS as this process; return the first response."""

    async def ask() -> Any:
        path = cell.workload_api.removeprefix("unix://")
        async with Channel.unix(path, max_backoff=0) as channel, asyncio.timeout(60):
            stub = sds_grpc.SecretDiscoveryServiceStub(channel)
            async with getattr(stub, method).open() as stream:
                for request in requests:
                    await stream.send_message(request, end=method == "FetchSecrets")
                response = await stream.recv_message()
                assert response is not None
                return response

    return asyncio.run(ask())


def told(cell: Any, *names: str) -> list[str] | None:
    """Return the names of what this process is given for names, as it is seen by an Envoy that has a validator."""
    try:
        response = call(cell, "FetchSecrets", whole(*names))
    except GRPCError:
        return None
    return sorted(secret_of(resource).name for resource in response.resources)


def whole(*names: str, minor: int = 40) -> discovery_pb2.DiscoveryRequest:
    request = discovery_pb2.DiscoveryRequest(resource_names=names, type_url=SECRET)
    version = request.node.user_agent_build_version.version
    version.major_number, version.minor_number = 1, minor
    return request


def secret_of(resource: Any) -> Any:
    from authsec_sdk.proto.envoy import tls_pb2

    secret = tls_pb2.Secret()
    assert resource.Unpack(secret)
    return secret


def validators(secret: Any) -> list[str]:
    """Return the trust domains a secret vouches for, in its order."""
    from authsec_sdk.proto.envoy import tls_pb2

    custom = secret.validation_context.custom_validator_config
    assert custom.name == "envoy.tls.cert_validator.spiffe"
    found = tls_pb2.SPIFFECertValidatorConfig()
    assert custom.typed_config.Unpack(found)
    return [domain.name for domain in found.trust_domains]


def test_envoy_names_of_secrets(world: Any) -> None:
    own, sdk = f"spiffe://{world.trust_domain}", f"spiffe://{world.trust_domain}/sdk"
    for name in ("default", sdk, "ROOTCA", own, "ALL", "spiffe://partner.test"):
        (resource,) = call(world, "FetchSecrets", whole(name)).resources
        secret = secret_of(resource)
        assert secret.name == name
        if name in ("default", sdk):
            assert secret.tls_certificate.private_key.inline_bytes.startswith(b"-----BEGIN PRIVATE KEY-----")
            assert secret.tls_certificate.certificate_chain.inline_bytes.startswith(b"-----BEGIN CERTIFICATE-----")
        else:
            every = [world.trust_domain, "partner.test"]
            assert validators(secret) == {"ALL": every, "spiffe://partner.test": every[1:]}.get(name, every[:1])
    assert told(world) == sorted([own, sdk, "spiffe://partner.test"])
    response = call(world, "FetchSecrets", whole("default"))
    assert (response.version_info, response.nonce, response.type_url) == ("", "", SECRET)


def refusal(cell: Any, *names: str, minor: int = 40, method: str = "FetchSecrets") -> tuple[Status, str | None]:
    with pytest.raises(GRPCError) as caught:
        call(cell, method, whole(*names, minor=minor))
    return caught.value.status, caught.value.message


def test_envoy_unknown_names_are_refused(world: Any) -> None:
    words = "workload is not authorized for the requested identities"
    for method in ("FetchSecrets", "StreamSecrets"):
        assert refusal(world, "other", method=method) == (Status.INVALID_ARGUMENT, f'{words} ["other"]')
        names = ("x", "default", f"spiffe://{world.trust_domain}/payments")
        listed = f'["spiffe://{world.trust_domain}/payments" "x"]'
        assert refusal(world, *names, method=method) == (Status.INVALID_ARGUMENT, f"{words} {listed}")


def test_envoy_without_the_validator_gets_plain_authorities(world: Any) -> None:
    untold = discovery_pb2.DiscoveryRequest(resource_names=["ROOTCA"], type_url=SECRET)
    disabled = whole("ROOTCA")
    disabled.node.metadata["disable_spiffe_cert_validation"] = True
    in_words = whole("ROOTCA")
    in_words.node.metadata["disable_spiffe_cert_validation"] = "true"
    is_false = whole("ROOTCA")
    is_false.node.metadata["disable_spiffe_cert_validation"] = False
    asked = {
        "1.17": whole("ROOTCA", minor=17),
        "1.18": whole("ROOTCA", minor=18),
        "untold": untold,
        "disabled": disabled,
        "in words": in_words,
        "false": is_false,
    }
    plain = {}
    for name, request in asked.items():
        (resource,) = call(world, "FetchSecrets", request).resources
        context = secret_of(resource).validation_context
        plain[name] = context.trusted_ca.inline_bytes.startswith(b"-----BEGIN CERTIFICATE-----")
        assert plain[name] is not context.HasField("custom_validator_config")
    assert plain == {"1.17": True, "1.18": False, "untold": False, "disabled": True, "in words": True, "false": False}
    text = 'unable to use "SPIFFE validator" on Envoy below 1.17'
    assert refusal(world, "ALL", minor=17) == (Status.INTERNAL, text)


def test_envoys_meet_and_the_sdk_meets_them(world: Any, envoys: Any, source: X509Source) -> None:
    _, _, mutual, plain = envoys
    status, said = get(plain)
    assert status == 200
    assert f"URI=spiffe://{world.trust_domain}/frontend" in said
    payments = authorize_id(f"spiffe://{world.trust_domain}/payments")
    with mtls_client(source, payments) as client:
        answer = client.get(f"https://127.0.0.1:{mutual}/")
    assert answer.status_code == 200
    assert f"URI=spiffe://{world.trust_domain}/sdk" in answer.json()


def test_envoy_keeps_federated_trust_domains_apart(
    world: Any, envoys: Any, source: X509Source, partner: TestCA
) -> None:
    """The partner's caller gets in; the partner's authority cannot make one of ours, and a third one nobody."""
    _, _, mutual, _ = envoys
    payments = authorize_id(f"spiffe://{world.trust_domain}/payments")
    bundles = BundleSet.of(*source.x509_context.bundles.values())

    def calls(ca: TestCA, path: str, **options: Any) -> int:
        svid = ca.svid(path, **options)
        with mtls_client(X509ContextHolder(X509Context((svid,), bundles)), payments) as client:
            return client.get(f"https://127.0.0.1:{mutual}/").status_code

    assert calls(partner, "/caller") == 200
    with pytest.raises((httpx.HTTPError, ssl.SSLError, OSError)):
        calls(partner, f"spiffe://{world.trust_domain}/sdk")
    with pytest.raises((httpx.HTTPError, ssl.SSLError, OSError)):
        calls(partner, "/somebody-else")
    with pytest.raises((httpx.HTTPError, ssl.SSLError, OSError)):
        calls(TestCA("third.test"), "/caller")


def rotate_under_load(running: tuple[Envoy, ...], port: int, rotations: int = 2) -> list[tuple[int, str]]:
    """Ask without a pause until each Envoy has had so many new certificates; return the answers that were not 200."""
    failures = []
    seen = {id(each): {serials(each)} for each in running}
    end = time.monotonic() + PATIENCE
    while any(len(known) <= rotations for known in seen.values()):
        assert time.monotonic() < end, "the certificates did not rotate"
        for _ in range(20):
            answer = get(port)
            if answer[0] != 200:
                failures.append(answer)
        for each in running:
            seen[id(each)].add(serials(each))
    return failures


def test_envoy_takes_up_again_after_the_agent_restarts(world: Any, envoys: Any) -> None:
    first, second, _, plain = envoys
    world.stop("agent")
    assert get(plain)[0] == 200, "Envoy goes on with what it has"
    world.start_agent()
    assert rotate_under_load((first, second), plain, rotations=1) == []


def test_envoys_rotate_without_a_dropped_request(envoys: Any) -> None:
    first, second, _, plain = envoys
    assert rotate_under_load((first, second), plain) == []
    for each, name in ((first, "spiffe_interop.test/payments"), (second, "default")):
        stats = each.stats()
        assert stats[f"sds.{name}.update_success"] > 2
        assert stats[f"sds.{name}.update_rejected"] == 0


def test_envoy_gets_only_what_changed_where_the_agent_can(
    world: Any, binaries: dict[str, Path], application: int, source: X509Source
) -> None:
    if world.agent_side == UPSTREAM:  # it cannot: the control is that it says so
        with pytest.raises(GRPCError) as caught:
            call(world, "DeltaSecrets", discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=["default"]))
        assert caught.value.status is Status.UNIMPLEMENTED
        return
    with serving(world, binaries, application, delta=True) as (first, second, _, plain):
        assert rotate_under_load((first, second), plain, rotations=1) == []
        bundles = second.stats()
        assert bundles["sds.default.update_success"] > bundles["sds.ROOTCA.update_success"]
        world.stop("agent")
        world.start_agent()
        assert rotate_under_load((first, second), plain, rotations=1) == []
        assert second.stats()["sds.default.update_rejected"] == 0


@contextmanager
def asking(cell: Any, binary: Path, name: str) -> Iterator[Envoy]:
    """Run an Envoy whose listener asks for another name as its certificate, and does not wait for it to start."""
    config = configuration("payments", cell, p8443=unused_port(), p8080=unused_port())
    tls = config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"]
    (secret,) = tls["common_tls_context"]["tls_certificate_sds_secret_configs"]
    secret["name"] = name
    secret["sds_config"] = {**secret["sds_config"], "initial_fetch_timeout": "1s"}
    with tempfile.TemporaryDirectory(prefix="envoy-", dir="/tmp") as folder:
        with envoy(config, Path(folder), binary=binary) as running:
            yield running


def test_envoy_refuses_what_is_no_certificate(world: Any, binaries: dict[str, Path]) -> None:
    with asking(world, binaries["payments"], "ROOTCA") as running:
        world.until("Envoy refuses it", lambda: running.stats()["sds.ROOTCA.update_rejected"])
        words = "Envoy reported errors applying secrets" if world.agent_side == UPSTREAM else "Envoy refused secrets"
        world.until("the agent says so", lambda: words in world.log("agent"))
        refused = running.stats()["sds.ROOTCA.update_rejected"]
        time.sleep(1)
        assert running.stats()["sds.ROOTCA.update_rejected"] <= refused + 1, "it is not told the same again and again"


def test_envoy_gets_an_identity_that_is_registered_later(world: Any, binaries: dict[str, Path]) -> None:
    name = f"spiffe://{world.trust_domain}/later"
    with asking(world, binaries["payments"], name) as running:
        stat = f"sds.{name.replace('://', '_')}.update"
        world.until("Envoy was told no", lambda: "not authorized for the requested" in running.log.read_text())
        assert (running.stats()[f"{stat}_success"], running.stats()[f"{stat}_failure"] > 0) == (0, True)
        world.register("/later", selector=f"unix:path:{binaries['payments']}")
        world.until("Envoy has it", lambda: running.stats()[f"{stat}_success"])
        assert name in running.get("/certs")
