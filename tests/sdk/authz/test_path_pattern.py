"""Patterns of SPIFFE IDs: the grammar, and matching against a slower, plainer judge."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.authz import authorize_path
from authsec_sdk.authz.path_pattern import PathPattern
from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("spiffe://td/a", ["spiffe://td/a"], ["spiffe://td/b", "spiffe://td/a/b", "spiffe://td/A", "spiffe://td"]),
        ("spiffe://td/*", ["spiffe://td/a", "spiffe://td/..."], ["spiffe://td", "spiffe://td/a/b", "spiffe://te/a"]),
        ("spiffe://td/**", ["spiffe://td/a", "spiffe://td/a/b/c"], ["spiffe://td", "spiffe://sub.td/a"]),
        ("spiffe://td/a/**", ["spiffe://td/a/b", "spiffe://td/a/b/c"], ["spiffe://td/a", "spiffe://td/ab"]),
        (
            "spiffe://td/ns/*/sa/payments",
            ["spiffe://td/ns/prod/sa/payments"],
            ["spiffe://td/ns/sa/payments", "spiffe://td/ns/a/b/sa/payments", "spiffe://td/ns/prod/sa/payments/x"],
        ),
        ("spiffe://td/*/*", ["spiffe://td/a/b"], ["spiffe://td/a", "spiffe://td/a/b/c"]),
        ("spiffe://td/*/**", ["spiffe://td/a/b", "spiffe://td/a/b/c"], ["spiffe://td/a"]),
    ],
)
def test_what_patterns_match(pattern: str, matching: list[str], other: list[str]) -> None:
    parsed = PathPattern.parse(pattern)
    assert str(parsed) == pattern
    for text in matching:
        assert parsed.matches(SpiffeID.parse(text)), text
    for text in other:
        assert not parsed.matches(SpiffeID.parse(text)), text


WRONG: list[Any] = [
    "",
    "*",
    "**",
    "/ns/*",
    "td/*",
    "spiffe://td",
    "spiffe://td/",
    "spiffe://*",
    "spiffe://**",
    "spiffe://*/a",
    "spiffe://*.td/a",
    "spiffe://TD/*",
    "spiffe://td/pay*",
    "spiffe://td/*pay",
    "spiffe://td/a*b",
    "spiffe://td/***",
    "spiffe://td/**/a",
    "spiffe://td/**/**",
    "spiffe://td/a/**/b/**",
    "spiffe://td/*/",
    "spiffe://td//*",
    "spiffe://td/./*",
    "spiffe://td/../*",
    "spiffe://td/a?",
    "spiffe://td/[ab]",
    "spiffe://td/{a,b}",
    "spiffe://td/%2a",
    "spiffe://td/*\n",
    "spiffe://td/*#",
    "https://td/*",
    "spiffe:*//td/a",
    "spiffe:/**/td/a",
    None,
    5,
    b"spiffe://td/*",
    SpiffeID.parse("spiffe://td/a"),
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_patterns_are_refused(text: Any) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        PathPattern.parse(text)
    with pytest.raises(InvalidSpiffeIDError):
        authorize_path(text)


def test_refusals_of_huge_patterns_are_short() -> None:
    with pytest.raises(InvalidSpiffeIDError) as refusal:
        PathPattern.parse("spiffe://td/" + "*/" * 100_000)
    assert len(str(refusal.value)) < 600


segments = st.sampled_from(["a", "b", "ns", "sa", "...", "A"])
parts = st.lists(st.one_of(segments, st.just("*")), max_size=4)
patterns = st.tuples(parts, st.booleans()).filter(lambda pair: pair[0] or pair[1])
ids = st.lists(segments, max_size=6).map(lambda made: SpiffeID.parse("/".join(["spiffe://td", *made])))


@given(patterns, ids)
def test_matching_agrees_with_a_regular_expression(pattern: tuple[list[str], bool], spiffe_id: SpiffeID) -> None:
    made, open_end = pattern
    text = "/".join(["spiffe://td", *made, *(["**"] if open_end else [])])
    judge = "".join("/[^/]+" if part == "*" else "/" + re.escape(part) for part in made) + (
        "(/[^/]+)+" if open_end else ""
    )
    assert PathPattern.parse(text).matches(spiffe_id) == bool(re.fullmatch(judge, spiffe_id.path))


@given(ids.filter(lambda spiffe_id: spiffe_id.path != ""))
def test_an_id_is_the_pattern_of_itself(spiffe_id: SpiffeID) -> None:
    pattern = PathPattern.parse(str(spiffe_id))
    assert pattern.matches(spiffe_id)
    assert not pattern.matches(spiffe_id.append("x"))
    assert not pattern.matches(SpiffeID.from_path(SpiffeID.parse("spiffe://other").trust_domain, spiffe_id.path))


@given(st.text(max_size=40).map(lambda text: "spiffe://td/" + text) | st.text(max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        pattern = PathPattern.parse(text)
    except InvalidSpiffeIDError:
        return
    assert str(pattern) == text
