"""The texts of join tokens."""

from __future__ import annotations

import re

import pytest

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.domain import join_token
from icp_server.domain.errors import InvalidArgument

TD = TrustDomain("example.org")


def test_generated_texts_carry_128_bits_in_the_shape_of_a_uuid() -> None:
    texts = {join_token.generate_text() for _ in range(200)}
    assert len(texts) == 200
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) for text in texts)
    for position in (*range(8), *range(9, 13), *range(14, 18), *range(19, 23), *range(24, 36)):
        # A version-4 UUID has the same digit at one of them, and four at another.
        assert len({text[position] for text in texts}) > 8
    join_token.agent_id_of(TD, texts.pop())


@pytest.mark.parametrize("wrong", ["", "a/b", "/", "..", ".", "a b", "é", "a\n", "a%2Fb", "x" * 3000])
def test_a_text_is_one_path_segment(wrong: str) -> None:
    with pytest.raises(InvalidArgument):
        join_token.agent_id_of(TD, wrong)


def test_the_digest_of_an_agent_is_that_of_its_token() -> None:
    agent_id = join_token.agent_id_of(TD, "abc")
    assert str(agent_id) == "spiffe://example.org/spire/agent/join_token/abc"
    assert join_token.digest_of_agent(agent_id) == join_token.digest("abc")
    assert join_token.digest("abc") != join_token.digest("abd")
    assert join_token.digest_of_agent(SpiffeID.parse("spiffe://example.org/spire/agent/x509pop/abc")) is None
