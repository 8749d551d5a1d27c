"""A real Envoy as the trusted front of a real server: whom it forwards, and attacks on what it forwards."""

import http.client
import json
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.integrations.asgi import TrustedFrontMiddleware
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.trusted_front import Front, TrustedFronts
from authsec_sdk.spiffe import SpiffeID
from tests.envoy import cluster, envoy, http_listener, tls_context, unused_port

FRONT = SpiffeID.parse("spiffe://example.org/front")
PAYMENTS = SpiffeID.parse("spiffe://example.org/payments")
FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
MEMBERS = authorize_member_of("example.org")
FORGED = f"By={PAYMENTS};Hash={'ab' * 32};URI=spiffe://example.org/admin"
Fronted = Callable[..., str]


async def tells(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the peer, the forwarded client, and every header that looks like one of its own."""
    spiffe = scope["extensions"]["spiffe"]
    forwarded = spiffe["forwarded"]
    headers = [name.decode() for name, _ in scope["headers"] if b"forwarded" in name and b"client" in name]
    answer = {"peer": str(spiffe["peer"]), "client": forwarded and str(forwarded.spiffe_id), "headers": headers}
    body = json.dumps(answer).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="envoy-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def backend(serve: Any) -> Iterator[str]:
    """payments, which every member of the trust domain may call, and which believes the front alone."""
    fronts = TrustedFronts(PAYMENTS, [FRONT, Front("spiffe://example.org/edge", "spiffe://example.org/edge")])  # type: ignore[arg-type]
    with serve(TrustedFrontMiddleware(tells, fronts), authorizer=MEMBERS) as server:
        yield server.url


@pytest.fixture
def fronted(world: Any, folder: Path) -> Iterator[Fronted]:
    """Return a function that starts Envoy before a backend and returns its URL."""
    with ExitStack() as stack:

        def start(
            url: str,
            mode: str = "SANITIZE_SET",
            *,
            own: str = "/front",
            terminates_as: str = "/payments",
            **options: Any,
        ) -> str:
            port = unused_port()
            bundles = (world.ca.bundle(), world.other.bundle())
            down = tls_context(world.ca.svid(terminates_as), *bundles, server=True)
            if options.pop("anonymous", False):  # Envoy's SPIFFE validator always demands a certificate
                down["typed_config"]["require_client_certificate"] = False
                del down["typed_config"]["common_tls_context"]["validation_context"]
            up = tls_context(world.ca.svid(own), world.ca.bundle(), server=False, ids=(str(PAYMENTS),))
            options.setdefault("set_current_client_cert_details", {"uri": True})
            listener = http_listener(port, "payments", down, forward_client_cert_details=mode, **options)
            backend = cluster("payments", int(url.rpartition(":")[2]), up)
            stack.enter_context(envoy({"static_resources": {"listeners": [listener], "clusters": [backend]}}, folder))
            return f"https://127.0.0.1:{port}"

        yield start


def called(world: Any, url: str, headers: Any = (), terminates_as: str = "/payments") -> Any:
    """Call as frontend; returns what the application tells, or the status."""
    server = authorize_id(f"spiffe://example.org{terminates_as}")
    with mtls_client(world.frontend, server) as client:
        answer = client.get(url, headers=headers)
    return answer.json() if answer.status_code == 200 else answer.status_code


TOLD = {"peer": str(FRONT), "client": str(FRONTEND), "headers": []}


@pytest.mark.parametrize("mode", ["SANITIZE_SET", "APPEND_FORWARD"])
@pytest.mark.parametrize(
    "details", [{"uri": True}, {"uri": True, "subject": True, "cert": True, "chain": True, "dns": True}]
)
def test_the_client_of_the_front_is_known(
    world: Any, backend: str, fronted: Fronted, mode: str, details: dict[str, bool]
) -> None:
    url = fronted(backend, mode, set_current_client_cert_details=details)
    assert called(world, url) == TOLD


@pytest.mark.parametrize("claimed", [FORGED, "By=spiffe://example.org/edge;URI=spiffe://example.org/admin"])
def test_what_a_client_says_of_itself_is_replaced(world: Any, backend: str, fronted: Fronted, claimed: str) -> None:
    assert called(world, fronted(backend), {"x-forwarded-client-cert": claimed}) == TOLD


def test_of_what_is_appended_to_the_last_element_counts(world: Any, backend: str, fronted: Fronted) -> None:
    url = fronted(backend, "APPEND_FORWARD")
    of_another = f"By=spiffe://example.org/edge;Hash={'ab' * 32};URI=spiffe://example.org/admin"
    assert called(world, url, {"x-forwarded-client-cert": of_another}) == TOLD
    for forged in (FORGED, 'Subject="', "rubbish", f'Subject=",{FORGED}"', ""):
        answer = called(world, url, {"x-forwarded-client-cert": forged})
        assert answer in (403, TOLD if not forged else 403), forged


@pytest.mark.parametrize("mode", ["SANITIZE_SET", "APPEND_FORWARD"])
def test_other_spellings_pass_envoy_and_are_refused(
    world: Any, backend: str, fronted: Fronted, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = fronted(backend, mode)
    for name in ("X_Forwarded_Client_Cert", "x-forwarded_client-cert"):
        assert called(world, url, {name: FORGED}) == 403
    assert "which servers may take for" in caplog.text
    assert called(world, url) == TOLD


def test_two_headers_of_a_client_make_none_of_the_fronts(world: Any, backend: str, fronted: Fronted) -> None:
    twice = [("x-forwarded-client-cert", FORGED), ("x-forwarded-client-cert", FORGED)]
    assert called(world, fronted(backend), twice) == TOLD
    assert called(world, fronted(backend, "APPEND_FORWARD"), twice) == 403


def test_who_comes_past_the_front_is_not_believed(world: Any, backend: str) -> None:
    for name in ("x-forwarded-client-cert", "X_Forwarded_Client_Cert"):
        told = called(world, backend, [(name, FORGED), (name, FORGED)])
        assert told == {"peer": str(FRONTEND), "client": None, "headers": []}


def test_a_front_that_is_not_named_is_not_believed(world: Any, backend: str, fronted: Fronted) -> None:
    told = called(world, fronted(backend, own="/another-front"))
    assert told == {"peer": "spiffe://example.org/another-front", "client": None, "headers": []}


def test_a_front_that_terminates_under_its_own_name_must_be_told_so(world: Any, backend: str, fronted: Fronted) -> None:
    assert called(world, fronted(backend, terminates_as="/front"), terminates_as="/front") == 403
    told = called(world, fronted(backend, own="/edge", terminates_as="/edge"), terminates_as="/edge")
    assert told == {**TOLD, "peer": "spiffe://example.org/edge"}


def test_a_client_without_a_certificate_is_nobody(world: Any, backend: str, fronted: Fronted) -> None:
    url = fronted(backend, anonymous=True)
    connection = http.client.HTTPSConnection(url.removeprefix("https://"), context=world.context_without_certificate())
    for headers in ({}, {"x-forwarded-client-cert": FORGED}):
        connection.request("GET", "/", headers=headers)
        assert json.loads(connection.getresponse().read()) == {**TOLD, "client": None}
    connection.request("GET", "/", headers={"x_forwarded_client_cert": FORGED})
    refused = connection.getresponse()
    assert (refused.status, json.loads(refused.read())["title"]) == (403, "Forbidden")
    connection.close()


SMUGGLED = [
    f"spiffe://other.test/a,{FORGED}",
    f"spiffe://other.test/a;{FORGED}",
    "spiffe://other.test/a;URI=spiffe://example.org/admin",
    f'spiffe://other.test/a",{FORGED}',
]


def presenting(world: Any, credential: Any, folder: Path) -> ssl.SSLContext:
    """Return a context of the standard library that presents what no SVID may be."""
    key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "credential.pem"
    file.write_bytes(key + b"".join(cert.public_bytes(Encoding.PEM) for cert in credential.certificates))
    context: ssl.SSLContext = world.context_without_certificate()
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize("mode", ["SANITIZE_SET", "APPEND_FORWARD"])
@pytest.mark.parametrize("uri", SMUGGLED)
def test_a_certificate_whose_uri_writes_pairs_of_its_own(
    world: Any, backend: str, fronted: Fronted, mode: str, uri: str, tmp_path: Path
) -> None:
    """The CA of a federated domain signs it; Envoy writes the URI as it is."""
    url = fronted(backend, mode)
    credential = world.other.credential(uris=(uri,))
    context = presenting(world, credential, tmp_path)
    connection = http.client.HTTPSConnection(url.removeprefix("https://"), context=context)
    for claimed in (None, 'Subject="', 'Subject="a'):
        connection.request("GET", "/", headers={} if claimed is None else {"x-forwarded-client-cert": claimed})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["title"]) == (403, "Forbidden")
    connection.close()


def test_envoy_writes_the_uri_as_it_is(
    world: Any, backend: str, fronted: Fronted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The attack arrives: without the rule that `By` occurs once, the last element would be the attacker's."""
    url = fronted(backend)
    context = presenting(world, world.other.credential(uris=(SMUGGLED[0],)), tmp_path)
    connection = http.client.HTTPSConnection(url.removeprefix("https://"), context=context)
    connection.request("GET", "/")
    assert connection.getresponse().status == 403
    connection.close()
    assert f"says By={PAYMENTS} more than once" in caplog.text


def test_a_front_that_only_forwards_lets_its_clients_write_its_word(world: Any, backend: str, fronted: Fronted) -> None:
    """The limit: nothing in the header tells. A front must be set to SANITIZE_SET or APPEND_FORWARD."""
    told = called(world, fronted(backend, "FORWARD_ONLY"), {"x-forwarded-client-cert": FORGED})
    assert told == {**TOLD, "client": "spiffe://example.org/admin"}
