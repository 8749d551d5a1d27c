"""Several servers as one: the next is asked before anybody hears of a failure; refusals are answers."""

from collections.abc import Callable
from typing import Any

import pytest

from authsec_sdk.spiffe import TrustDomain
from icp_agent.domain.agent_state import DenialReason
from icp_agent.failover import Failover
from icp_agent.ports import (
    DeniedByServerError,
    MalformedAnswerError,
    RefusedByServerError,
    ServerUnavailableError,
    UnsupportedByServerError,
)
from icp_agent.server_client import ServerAddress

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Scripted:
    """A server whose answers are given; each call takes the next."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    async def _answer(self, *_: object) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bundle = federated_bundle = authorized_entries = sign = new_jwt_svid = renew = post_status = _answer


CALLS: list[Callable[[Failover], Any]] = [
    lambda api: api.bundle(),
    lambda api: api.federated_bundle(TD),
    lambda api: api.authorized_entries({}),
    lambda api: api.sign([]),
    lambda api: api.new_jwt_svid("e", ["a"]),
    lambda api: api.renew(b""),
    lambda api: api.post_status("1"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_the_next_one_is_asked(call: Callable[[Failover], Any]) -> None:
    away = ServerUnavailableError("away")
    server = Scripted(away, away, "answer")
    assert await call(Failover(server, 3)) in ("answer", None)
    assert server.answers == []


async def test_when_all_are_away_the_failure_is_told() -> None:
    server = Scripted(*(ServerUnavailableError(f"away {number}") for number in range(4)))
    with pytest.raises(ServerUnavailableError, match="away 2"):
        await Failover(server, 3).bundle()
    assert len(server.answers) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        DeniedByServerError(DenialReason.AGENT_BANNED, "banned"),
        RefusedByServerError("no", 3),
        UnsupportedByServerError("no", 12),
        MalformedAnswerError("nonsense"),
    ],
)
async def test_an_answer_is_final(refusal: Exception) -> None:
    server = Scripted(refusal, "another answer")
    with pytest.raises(type(refusal)):
        await Failover(server, 3).bundle()
    assert server.answers == ["another answer"]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a.test", [("a.test", 8081)]),
        ("a.test, b.test:9 ,::1,10.0.0.1:7", [("a.test", 8081), ("b.test", 9), ("::1", 8081), ("10.0.0.1", 7)]),
        ("a:b:c", [("a:b:c", 8081)]),
        ("a.test:0", [("a.test:0", 8081)]),
    ],
)
def test_an_address_may_name_several(text: str, places: list[tuple[str, int]]) -> None:
    assert list(ServerAddress(text, 8081, TD).places) == places
