"""Messages nobody honest sends: whatever their fields hold, the answer is a refusal and never a failure of ours."""

from collections.abc import Callable
from typing import Any

import grpclib.client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.reserved_ids import check_agent_id, check_member_id, check_workload_id
from icp_server.domain.errors import InvalidArgument
from icp_server.grpc_api.access import ACCESS
from icp_server.grpc_api.decode import federates_with_match, member_id, selector_match

TRUST_DOMAIN = TrustDomain("example.org")

names = st.one_of(st.text(max_size=40), st.sampled_from(["example.org", "", "..", "spiffe://example.org/x"]))
paths = st.one_of(st.text(max_size=60), st.sampled_from(["", "/", "/spire/agent/x", "/a/../b", "/%2e", "/a//b", "a"]))


def _read(call: Callable[[], Any]) -> Any:
    """What was read, or None if it was refused in the words given."""
    try:
        return call()
    except InvalidArgument as error:
        refusal = error.message
    assert refusal.startswith("what: ")
    return None


@given(names, paths, st.sampled_from([check_agent_id, check_member_id, check_workload_id]))
def test_any_id_is_read_or_refused(name: str, path: str, check: Any) -> None:
    message = types_pb2.SPIFFEID(trust_domain=name, path=path)
    spiffe_id = _read(lambda: member_id(message, TRUST_DOMAIN, check, "what"))
    assert spiffe_id is None or (spiffe_id.trust_domain.name, spiffe_id.path) == ("example.org", path)


@given(st.lists(st.tuples(names, names), max_size=4), st.integers(-(2**31), 2**31 - 1))
def test_any_selector_filter_is_read_or_refused(selectors: list[tuple[str, str]], match: int) -> None:
    message = types_pb2.SelectorMatch(
        selectors=[types_pb2.Selector(type=type_, value=value) for type_, value in selectors],
        match=match,  # type: ignore[arg-type]
    )
    read = _read(lambda: selector_match(message, "what"))
    assert read is None or {(each.type, each.value) for each in read.selectors} == set(selectors)


@given(st.lists(names, max_size=4), st.integers(-5, 8))
def test_any_trust_domain_filter_is_read_or_refused(texts: list[str], match: int) -> None:
    read = _read(lambda: federates_with_match(texts, match, "what"))
    assert read is None or len(read.trust_domains) <= len(texts)


class Junk:
    """Stands for a message and is sent as bytes that are none."""

    def SerializeToString(self) -> bytes:
        return b"\x0a\xff\xff\xff\xff\x0f junk"


@pytest.mark.anyio
async def test_bytes_that_are_no_message_end_the_call_and_not_the_server(live: Any) -> None:
    for method in ACCESS:
        call: Any = grpclib.client.UnaryUnaryMethod(live.admin, method, Junk, types_pb2.Status)
        with pytest.raises(GRPCError) as caught:
            await call(Junk(), timeout=20)
        assert caught.value.status not in (Status.OK, Status.UNKNOWN), method
        answer = await health_grpc.HealthStub(live.admin).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, method
