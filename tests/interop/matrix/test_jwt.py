"""JWT-SVIDs in every cell: fetched by our source, validated here and by the agent, over a forced rotation of keys."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from authsec_sdk.errors import NoIdentityError, WorkloadAPIError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import JWTSVID, TrustDomain
from authsec_sdk.workloadapi import JWTSource, WorkloadAPIClient

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.fixture
def identity(cell: Any) -> str:
    spiffe_id = f"spiffe://{cell.trust_domain}/tokens"
    if cell.server_json("entry", "count", "-spiffeID", spiffe_id)["count"] == 0:
        cell.register("/tokens", "-jwtSVIDTTL", "60")
    return spiffe_id


@pytest.fixture
def source(cell: Any, identity: str) -> Iterator[JWTSource]:
    def served() -> bool:
        try:
            with JWTSource(cell.workload_api, ready_timeout=60) as source:
                return str(source.wait_svid(["warm up"]).id) == identity
        except NoIdentityError:  # the agent has not heard of the entry yet
            return False

    cell.until("the agent issues JWT-SVIDs", served)
    with JWTSource(cell.workload_api, ready_timeout=60) as source:
        yield source


def fresh(cell: Any, audience: list[str]) -> JWTSVID:
    """Ask the agent, past our cache."""

    async def fetch() -> JWTSVID:
        return await WorkloadAPIClient(cell.workload_api).fetch_jwt_svid(audience, timeout=30)

    return asyncio.run(fetch())


def test_jwt_svids_are_fetched_and_validated(cell: Any, identity: str, source: JWTSource) -> None:
    svid = source.wait_svid(["payments"])
    assert (str(svid.id), svid.audience, svid.issued_at is not None) == (identity, ("payments",), True)
    assert source.wait_svid(["payments"]) is svid
    assert source.validate(svid.token, ["payments"]) == svid
    assert source.wait_validate_by_agent(svid.token, "payments").claims["sub"] == identity
    assert source.wait_svid(["b", "a"], subject=identity).audience == ("a", "b")


def test_jwt_svids_are_refused_by_both_alike(cell: Any, source: JWTSource) -> None:
    token = source.wait_svid(["payments"]).token
    head, payload, signature = token.split(".")
    broken = f"{head}.{payload}.{signature[:-6]}AAAAAA"
    with pytest.raises(InvalidTokenError) as caught:
        source.validate(broken, ["payments"])
    assert caught.value.fault is TokenFault.BAD_SIGNATURE
    for wrong, audience in ((broken, "payments"), (token, "other"), ("nonsense", "payments")):
        with pytest.raises(InvalidTokenError):
            source.validate(wrong, [audience])
        with pytest.raises(InvalidTokenError) as caught:
            source.wait_validate_by_agent(wrong, audience)
        assert caught.value.fault is TokenFault.REFUSED_BY_AGENT
    with pytest.raises(NoIdentityError):
        source.wait_svid(["payments"], subject=f"spiffe://{cell.trust_domain}/stranger")


def test_jwt_svids_by_the_command_line_validate_here(cell: Any, identity: str, source: JWTSource) -> None:
    [answer, *_] = json.loads(cell.agent_cli("api", "fetch", "jwt", "-audience", "payments", "-output", "json").stdout)
    token = answer["svids"][0]["svid"]
    assert str(source.validate(token, ["payments"]).id) == identity
    minted = cell.server_cli("jwt", "mint", "-spiffeID", f"spiffe://{cell.trust_domain}/m", "-audience", "a").stdout
    assert source.validate(minted.strip(), ["a"]).id.path == "/m"
    ours = source.wait_svid(["payments"]).token
    cell.agent_cli("api", "validate", "jwt", "-audience", "payments", "-svid", ours)


def test_jwt_keys_follow_a_rotation_and_tainted_tokens_go(cell: Any, identity: str, source: JWTSource) -> None:
    old = source.wait_svid(["payments"])
    cell.server_cli("localauthority", "jwt", "prepare")
    prepared = cell.server_json("localauthority", "jwt", "show")["prepared"]["authority_id"]
    domain = TrustDomain(cell.trust_domain)
    cell.until("the new key is published", lambda: prepared in source.jwt_bundles[domain].authorities)
    cell.server_cli("localauthority", "jwt", "activate", "-authorityID", prepared)
    numbers = itertools.count()
    cell.until("a new token has a new key", lambda: source.wait_svid([f"{next(numbers)}"]).key_id != old.key_id)
    assert source.validate(old.token, ["payments"]), "the old key is still trusted"
    assert old.key_id is not None
    cell.server_cli("localauthority", "jwt", "taint", "-authorityID", old.key_id)
    cell.until("the agent's own cache has dropped it", lambda: fresh(cell, ["payments"]).key_id != old.key_id)
    cell.server_cli("localauthority", "jwt", "revoke", "-authorityID", old.key_id)
    cell.until("the old key is gone", lambda: old.key_id not in source.jwt_bundles[domain].authorities)
    with pytest.raises(InvalidTokenError) as caught:
        source.validate(old.token, ["payments"])
    assert caught.value.fault is TokenFault.UNKNOWN_KEY
    new = source.wait_svid(["payments"])
    assert new.key_id != old.key_id  # which other one: the authorities of this short-lived CA rotate by themselves too
    assert isinstance(source.validate(new.token, ["payments"]), JWTSVID)
    assert str(new.id) == identity


@pytest.mark.anyio
async def test_wit_svids_are_not_served_by_agents(cell: Any, identity: str) -> None:
    async with WorkloadAPIClient(cell.workload_api) as client:
        for call in (client.fetch_wit_svids, client.fetch_wit_bundles):
            with pytest.raises(WorkloadAPIError) as caught:
                await call(timeout=30)
            assert caught.value.status == Status.UNIMPLEMENTED.value
