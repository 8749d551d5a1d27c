"""Keys of JWT-SVIDs by OpenID Connect Discovery: fetched, followed, and believed of their issuer alone."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError, InvalidEndpointError
from authsec_sdk.federation import BundleEndpoint, BundleEndpointError, FederationSource, fetch_bundle
from authsec_sdk.federation.oidc import keys_url
from authsec_sdk.spiffe import JWTSVID, format_key_set
from authsec_sdk.testing import TestCA

pytestmark = pytest.mark.anyio  # on asyncio and trio
Make = Callable[..., Any]


class Provider:
    """What SPIRE's OIDC discovery provider serves."""

    def __init__(self, http: Any) -> None:
        self.ca = TestCA("b.test")
        self.reply = http.reply
        self.issuer = ""
        self.changes: dict[str, object] = {}
        self.status = "200 OK"

    def answer(self, connection: Any, path: str) -> None:
        document = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.changes}
        body = json.dumps(document).encode() if path.endswith("openid-configuration") else self.keys()
        connection.sendall(self.reply(body, self.status, "Content-Type: application/json", "Location: /elsewhere"))

    def keys(self) -> bytes:
        return format_key_set(self.ca.tokens.jwt_bundle())


@pytest.fixture
def provider(site: Make, web: Any, http: Any) -> tuple[Provider, BundleEndpoint, Any]:
    made = Provider(http)
    here = site(web.server(), made.answer)
    made.issuer = here.url.removesuffix("/bundle")
    return made, BundleEndpoint.oidc("b.test", made.issuer, ca_file=web.ca_file), here


async def test_keys_are_found_and_validate_tokens(provider: Any) -> None:
    made, endpoint, here = provider
    bundle = await fetch_bundle(endpoint)
    assert here.paths == ["/.well-known/openid-configuration", "/keys"]
    assert bundle.jwt_bundle() == made.ca.tokens.jwt_bundle()
    assert not bundle.x509_authorities


async def test_new_keys_are_followed_and_the_last_good_ones_kept(provider: Any, quick: Any, eventually: Any) -> None:
    made, endpoint, _ = provider
    async with FederationSource(endpoint, refresh=quick) as source:
        token = made.ca.tokens.jwt_token("/web", ["us"])
        assert JWTSVID.parse_and_validate(token, source.jwt_bundles, ["us"], now=datetime.now(UTC)).id.path == "/web"
        made.ca = TestCA("b.test")
        await eventually(lambda: source.jwt_bundles.require(made.ca.trust_domain) == made.ca.tokens.jwt_bundle())
        made.status = "500 Broken"
        await eventually(lambda: not source.status.endpoints[0].current)
        token = made.ca.tokens.jwt_token("/db", ["us"])
        assert JWTSVID.parse_and_validate(token, source.jwt_bundles, ["us"], now=datetime.now(UTC)).id.path == "/db"


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://127.0.0.1/another"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user@127.0.0.1/keys"},
    ],
)
async def test_what_is_no_document_of_the_issuer(provider: Any, changes: dict[str, object]) -> None:
    made, endpoint, here = provider
    made.changes = changes
    with pytest.raises(InvalidBundleError):
        await fetch_bundle(endpoint)
    assert here.paths == ["/.well-known/openid-configuration"]


async def test_an_issuer_with_a_slash_at_its_end_is_another_one(provider: Any, web: Any) -> None:
    made, _, here = provider
    with pytest.raises(InvalidBundleError, match="another issuer"):
        await fetch_bundle(BundleEndpoint.oidc("b.test", f"{made.issuer}/", ca_file=web.ca_file))
    assert here.paths == ["/.well-known/openid-configuration"]


async def test_private_keys_are_refused(provider: Any) -> None:
    made, endpoint, _ = provider
    key = json.loads(made.keys())["keys"][0]
    made.keys = lambda: json.dumps({"keys": [key | {"d": "AAAA"}]}).encode()
    with pytest.raises(InvalidBundleError):
        await fetch_bundle(endpoint)


async def test_redirects_are_refused(provider: Any) -> None:
    made, endpoint, here = provider
    made.status = "302 Found"
    with pytest.raises(BundleEndpointError):
        await fetch_bundle(endpoint)
    assert len(here.paths) == 1


async def test_a_server_that_the_web_does_not_know(provider: Any) -> None:
    made, _, here = provider
    with pytest.raises(BundleEndpointError, match="certificate"):
        await fetch_bundle(BundleEndpoint.oidc("b.test", made.issuer))
    assert here.paths == []


def test_an_issuer_is_an_https_url() -> None:
    with pytest.raises(InvalidEndpointError):
        BundleEndpoint.oidc("b.test", "http://as.example")


@given(st.binary(max_size=300) | st.sampled_from([b"[" * 50000, b"null", b"[]", b'"x"']))
def test_no_document_raises_anything_else(document: bytes) -> None:
    with pytest.raises(InvalidBundleError):
        keys_url("https://as.example", document)
