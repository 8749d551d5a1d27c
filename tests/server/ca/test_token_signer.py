"""Tokens by every kind of key, verified as others verify them, and what is never signed."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authsec_sdk.spiffe import JWTSVID, BundleSet, SpiffeID
from authsec_sdk.spiffe.bundle import JWTBundle, WITBundle
from authsec_sdk.spiffe.witsvid import UnprovenWIT
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_key import TokenKey, new_key_id
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.confirmation import ConfirmationKey
from icp_server.domain.errors import Internal, Unavailable
from icp_server.domain.key_type import KeyType
from icp_server.domain.token_template import JWTRequest, WITRequest
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
DEFAULTS = TokenSettings()
WEB = SpiffeID.parse("spiffe://example.org/web")
ALGORITHMS = {
    KeyType.EC_P256: "ES256",
    KeyType.EC_P384: "ES384",
    KeyType.RSA_2048: "RS256",
    KeyType.RSA_4096: "RS256",
}


async def started(
    store: SQLStore, clock: Any, settings: TokenSettings = DEFAULTS, **ca: Any
) -> tuple[SVIDTokenSigner, AuthorityRotator]:
    tokens = SVIDTokenSigner(store.trust_domain, settings, clock)
    kinds = slot_kinds(store, SVIDSigner(store.trust_domain, Lifetimes(), clock), tokens, CASettings(wit=True, **ca))
    rotator = AuthorityRotator(store, MemoryKeyManager(), kinds, clock)
    await rotator.start()
    return tokens, rotator


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: key_type.value)
async def test_jwt_svids_verify_by_ours_and_by_another_library(store: SQLStore, clock: Any, key_type: KeyType) -> None:
    tokens, _ = await started(store, clock, jwt_key_type=key_type)
    issued = await tokens.sign_jwt(JWTRequest(WEB, ("b", "a")))
    bundle = await store.bundles.get(store.trust_domain)
    assert bundle is not None
    svid = JWTSVID.parse_and_validate(issued.token, BundleSet.of(bundle.jwt_bundle()), ["a"], now=clock())
    assert (svid.id, svid.audience) == (WEB, ("b", "a"))
    (key_id, key), *_ = bundle.jwt_authorities.items()
    header = pyjwt.get_unverified_header(issued.token)
    assert header == {"alg": ALGORITHMS[key_type], "kid": key_id, "typ": "JWT"}
    claims = pyjwt.decode(issued.token, key, algorithms=[ALGORITHMS[key_type]], audience="b")
    now = int(clock().timestamp())
    assert claims == {"sub": str(WEB), "aud": ["b", "a"], "iat": now, "exp": now + 300}
    assert (issued.issued_at, issued.expires_at) == (now, now + 300)


async def test_issuer_jti_and_lifetime_are_what_was_asked_for(store: SQLStore, clock: Any) -> None:
    settings = TokenSettings(jwt_svid_ttl=timedelta(minutes=1), jwt_issuer="https://i")
    tokens, _ = await started(store, clock, settings)
    ids = set()
    for _ in range(2):
        issued = await tokens.sign_jwt(JWTRequest(WEB, ("a",), include_jti=True))
        svid = JWTSVID.unsafe_parse(issued.token)
        assert svid.claims["iss"] == "https://i"
        assert issued.expires_at - issued.issued_at == 60
        ids.add(svid.claims["jti"])
    assert len(ids) == 2
    for ttl, lasts in ((10, 10), (-5, 60), (10**8, 24 * 3600)):  # never beyond the key
        issued = await tokens.sign_jwt(JWTRequest(WEB, ("a",), ttl))
        assert issued.expires_at - issued.issued_at == lasts


async def test_wit_svids_are_bound_to_the_key(store: SQLStore, clock: Any) -> None:
    tokens, _ = await started(store, clock, TokenSettings(wit_issuer="i"))
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    issued = await tokens.sign_wit(WITRequest(WEB, ConfirmationKey(key, "ES384"), 60))
    bundle = await store.bundles.get(store.trust_domain)
    assert bundle is not None
    wit = UnprovenWIT.parse_and_validate(issued.token, BundleSet.of(bundle.wit_bundle()), now=clock())
    assert (wit.id, wit.confirmation_key, wit.confirmation_algorithm) == (WEB, key, "ES384")
    assert wit.claims["iss"] == "i"
    assert "aud" not in wit.claims
    assert issued.expires_at - issued.issued_at == 60
    assert (bundle.jwt_bundle(), bundle.wit_bundle()) != (JWTBundle(WEB.trust_domain), WITBundle(WEB.trust_domain))


@pytest.mark.parametrize(
    "wrong", ["spiffe://other.org/web", "spiffe://example.org", "spiffe://example.org/spire/agent/x"]
)
async def test_ids_that_are_never_signed(store: SQLStore, clock: Any, wrong: str) -> None:
    tokens, _ = await started(store, clock)
    key = ConfirmationKey(ec.generate_private_key(ec.SECP256R1()).public_key(), "ES256")
    with pytest.raises(Internal):
        await tokens.sign_jwt(JWTRequest(SpiffeID.parse(wrong), ("a",)))
    with pytest.raises(Internal):
        await tokens.sign_wit(WITRequest(SpiffeID.parse(wrong), key))


async def test_without_a_live_authority_nothing_is_signed(store: SQLStore, clock: Any) -> None:
    tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
    with pytest.raises(Unavailable, match="JWT key is not available for signing"):
        await tokens.sign_jwt(JWTRequest(WEB, ("a",)))
    tokens, _ = await started(store, clock)
    clock.forward(hours=24)
    with pytest.raises(Unavailable, match="expired"):
        await tokens.sign_jwt(JWTRequest(WEB, ("a",)))


async def test_an_authority_shows_no_key(store: SQLStore, clock: Any) -> None:
    tokens, rotator = await started(store, clock)
    assert "sign" not in repr(tokens.jwt.key).replace("SigningKey", "")
    with pytest.raises(TypeError):
        pickle.dumps(tokens.jwt.key)
    record = rotator.local_authorities(AuthorityKind.JWT).active
    assert TokenKey.of(record, ec.generate_private_key(ec.SECP256R1())) is None
    assert TokenKey.of(record, None) is None
    assert len({new_key_id() for _ in range(100)}) == 100
    assert all(len(each) == 32 and each.isalnum() for each in (new_key_id() for _ in range(100)))
