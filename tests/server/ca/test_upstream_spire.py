"""UpstreamAuthority "spire": one of our servers below another, over real sockets, with a Workload API in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.proto.spire import (
    bundle_grpc,
    bundle_pb2,
    entry_grpc,
    entry_pb2,
    localauthority_grpc,
    localauthority_pb2,
    svid_grpc,
    svid_pb2,
    types_pb2,
)
from authsec_sdk.rpc import GRPCError
from authsec_sdk.spiffe import BundleSet, X509Context
from authsec_sdk.spiffe.verify import verify_chain
from authsec_sdk.spire.wire import bundle_from_wire
from authsec_sdk.testing import FakeWorkloadAPI
from icp_server.app import Pace
from icp_server.ca.upstream import UpstreamError
from icp_server.domain.upstream_settings import SpireUpstream

pytestmark = pytest.mark.anyio


@pytest.fixture
def agent() -> Iterator[FakeWorkloadAPI]:
    """The local agent of the server below."""
    with FakeWorkloadAPI() as fake:
        yield fake


async def _identity(top: Any, agent: FakeWorkloadAPI, path: str = "/below", **rights: bool) -> None:
    """Register the server below with the one above, and give it its SVID."""
    entry = types_pb2.Entry(
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value="uid:0")],
        **rights,
    )
    answer = await entry_grpc.EntryStub(top.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry]))
    assert answer.results[0].status.code == 0
    agent.set_context(X509Context((await top.mint(path),), BundleSet.of(await top.bundle())))


async def _below(start_server: Any, top: Any, agent: FakeWorkloadAPI, **more: Any) -> Any:
    socket = Path(agent.address.removeprefix("unix://"))
    upstream = SpireUpstream("127.0.0.1", top.app.tcp_address[1], socket)
    return await start_server(plugins=replace(more.pop("plugins"), upstream=upstream), **more)


@pytest.fixture
async def top(start_server: Any) -> Any:
    """The server above."""
    return await start_server()


def _plugins(tmp_path: Any) -> Any:
    from icp_server.config.model import DataStore, Plugins
    from icp_server.domain.key_settings import DiskKeys

    folder = tmp_path / "below"
    folder.mkdir(mode=0o700, exist_ok=True)
    return Plugins(DataStore(folder / "db.sqlite3"), DiskKeys(folder / "keys.json"))


async def _keys(server: Any) -> set[str]:
    bundle = bundle_from_wire(await bundle_grpc.BundleStub(server.admin).GetBundle(bundle_pb2.GetBundleRequest()))
    return set(bundle.jwt_authorities)


async def test_what_is_signed_below_verifies_above(start_server: Any, top: Any, agent: Any, tmp_path: Any) -> None:
    await _identity(top, agent, downstream=True)
    below = await _below(start_server, top, agent, plugins=_plugins(tmp_path))
    svid = await below.mint("/workload")
    assert len(svid.certificates) == 2  # its own, and that of the CA below; the root stays away
    at = svid.not_before + timedelta(minutes=1)
    assert verify_chain(svid.certificates, BundleSet.of(await top.bundle()), at=at) == svid.id
    assert await below.bundle() == await top.bundle()
    assert "DOWNSTREAM-1" in svid.certificates[1].subject.rfc4514_string()
    assert await _keys(below) == await _keys(top)  # tokens of each verify at both
    assert len(await _keys(top)) == 2
    caller = await top.caller(await below.mint("/other"))
    with pytest.raises(GRPCError, match="authorization denied"):
        await entry_grpc.EntryStub(caller).CountEntries(entry_pb2.CountEntriesRequest())


async def test_three_deep(start_server: Any, top: Any, agent: Any, tmp_path: Any) -> None:
    await _identity(top, agent, downstream=True)
    middle = await _below(start_server, top, agent, plugins=_plugins(tmp_path))
    with FakeWorkloadAPI() as second:
        await _identity(middle, second, path="/lowest", downstream=True)
        lowest = await _below(start_server, middle, second, plugins=_plugins(tmp_path / "below"))
        svid = await lowest.mint("/workload")
        assert len(svid.certificates) == 3
        at = svid.not_before + timedelta(minutes=1)
        assert verify_chain(svid.certificates, BundleSet.of(await top.bundle()), at=at) == svid.id
        assert "DOWNSTREAM-2" in svid.certificates[1].subject.rfc4514_string()
        assert await _keys(lowest) == await _keys(top)


async def test_a_server_without_the_right_does_not_start(
    start_server: Any, top: Any, agent: Any, tmp_path: Any
) -> None:
    await _identity(top, agent)
    with pytest.raises(UpstreamError, match="answered PERMISSION_DENIED"):
        await _below(start_server, top, agent, plugins=_plugins(tmp_path))


async def test_another_server_than_upstream_is_not_talked_to(
    start_server: Any, top: Any, agent: Any, tmp_path: Any
) -> None:
    """Whoever answers at the address must be the server of our trust domain by the agent's bundle."""
    other = await start_server()
    await _identity(top, agent, downstream=True)
    with pytest.raises(UpstreamError, match="peer refused"):
        await _below(start_server, other, agent, plugins=_plugins(tmp_path))


async def test_with_an_authority_it_starts_alone_and_catches_up(
    start_server: Any, top: Any, agent: Any, tmp_path: Any
) -> None:
    await _identity(top, agent, downstream=True)
    plugins = _plugins(tmp_path)
    async with AsyncExitStack() as first:
        before = await _below(start_server, top, agent, plugins=plugins, parts=first)
        root = await before.bundle()
    agent.deny()
    again = await _below(start_server, top, agent, plugins=plugins)
    assert await again.bundle() == root
    assert len((await again.mint("/workload")).certificates) == 2


async def test_what_upstream_taints_is_left(start_server: Any, top: Any, agent: Any, tmp_path: Any) -> None:
    await _identity(top, agent, downstream=True)
    below = await _below(
        start_server,
        top,
        agent,
        plugins=_plugins(tmp_path),
        options={"pace": Pace(upstream=timedelta(milliseconds=50))},
    )
    old = (await top.bundle()).authorities[0]
    control = localauthority_grpc.LocalAuthorityStub(top.admin)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(below.app.run)
        prepared = await control.PrepareX509Authority(localauthority_pb2.PrepareX509AuthorityRequest())
        await _until(lambda: _roots(below, 2))
        state = await control.ActivateX509Authority(
            localauthority_pb2.ActivateX509AuthorityRequest(authority_id=prepared.prepared_authority.authority_id)
        )
        assert state.activated_authority.authority_id == prepared.prepared_authority.authority_id
        states = await control.GetX509AuthorityState(localauthority_pb2.GetX509AuthorityStateRequest())
        await control.TaintX509Authority(
            localauthority_pb2.TaintX509AuthorityRequest(authority_id=states.old.authority_id)
        )
        agent.set_context(X509Context((await top.mint("/below"),), BundleSet.of(await top.bundle())))

        async def left() -> bool:
            svid = await below.mint("/w")
            new = [root for root in (await top.bundle()).authorities if root != old]
            try:
                svid.certificates[-1].verify_directly_issued_by(new[0])
            except Exception:  # the old root still
                return False
            return True

        await _until(left)
        tasks.cancel_scope.cancel()


async def _roots(server: Any, number: int) -> bool:
    return len((await server.bundle()).authorities) == number


async def _until(done: Any) -> None:
    with anyio.fail_after(60):
        while not await done():
            await anyio.sleep(0.05)


async def test_a_ca_certificate_is_asked_for_no_longer_than_ours_may_live(
    start_server: Any, top: Any, agent: Any, tmp_path: Any
) -> None:
    await _identity(top, agent, downstream=True)
    lifetimes = replace(top.config.lifetimes, ca=timedelta(hours=2))
    below = await _below(start_server, top, agent, plugins=_plugins(tmp_path), lifetimes=lifetimes)
    ours = (await below.mint("/w")).certificates[1]
    assert ours.not_valid_after_utc - ours.not_valid_before_utc <= timedelta(hours=2, minutes=1)
    answer = await svid_grpc.SVIDStub(below.admin).MintX509SVID(
        svid_pb2.MintX509SVIDRequest(csr=below.csr(uri="spiffe://example.org/w"), ttl=86400)
    )
    assert answer.svid.expires_at <= ours.not_valid_after_utc.timestamp()
