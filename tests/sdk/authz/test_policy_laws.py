"""The three laws of policies, over policies and requests that nobody thought of."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_sdk.authz import Policy, Request
from authsec_sdk.authz.route_pattern import RoutePattern
from authsec_sdk.authz.rules import DatabaseScope, GRPCScope, HTTPScope, Rule, parse_peer
from authsec_sdk.errors import PeerNotAuthorizedError
from authsec_sdk.spiffe import SpiffeID

WORDS = st.sampled_from(["a", "b"])
IDS = st.builds(
    lambda domain, words: SpiffeID.parse("/".join([f"spiffe://{domain}.test", *words])),
    WORDS,
    st.lists(WORDS, min_size=1, max_size=3),
)
PEERS = st.one_of(
    IDS,
    st.sampled_from(
        [
            parse_peer(text)
            for text in ("a.test", "b.test", "spiffe://a.test/*", "spiffe://a.test/a/**", "spiffe://b.test/**")
        ]
    ),
)
PATHS = st.sampled_from([RoutePattern.parse(text) for text in ("/", "/**", "/a", "/a/*", "/a/**", "/*/b", "/b")])
METHODS = st.sampled_from(["GET", "HEAD", "POST"])
RPCS = ["/a.S/Get", "/a.S/Put", "/S/Get"]
some = st.frozensets
SCOPES = st.one_of(
    st.builds(HTTPScope, some(PATHS, min_size=1), st.none() | some(METHODS, min_size=1)),
    st.builds(GRPCScope, some(st.sampled_from([*RPCS, "/a.S/*", "/*"]), min_size=1)),
    st.builds(DatabaseScope, st.none() | some(WORDS, min_size=1), st.none() | some(WORDS, min_size=1)),
)
RULES = st.builds(
    Rule,
    st.just("x"),
    st.sampled_from(["allow", "deny"]),
    some(PEERS, min_size=1, max_size=3),
    st.none() | some(SCOPES, min_size=1, max_size=3),
)
REQUESTS = st.one_of(
    st.builds(
        lambda method, words, slash: Request.http(method, "/" + "/".join(words) + slash),
        METHODS | st.just("get"),
        st.lists(WORDS | st.just(".."), max_size=3),
        st.sampled_from(["", "/"]),
    ),
    st.builds(Request.grpc, st.sampled_from([*RPCS, "/nothing"])),
    st.builds(Request.database, WORDS, WORDS),
)


def policy(rules: list[Rule]) -> Policy:
    return Policy(replace(rule, name=f"rule-{number}") for number, rule in enumerate(rules))


def accepts(rules: Policy, peer: SpiffeID, request: Request) -> bool:
    return rules.decide(peer, request).allowed


def may_connect(rules: Policy, peer: SpiffeID) -> bool:
    try:
        rules.may_connect(peer)
    except PeerNotAuthorizedError:
        return False
    return True


RULE_LISTS = st.lists(RULES, max_size=5)


@settings(deadline=None)
@given(RULE_LISTS, RULES, IDS, REQUESTS)
def test_a_further_deny_never_allows_more(rules: list[Rule], further: Rule, peer: SpiffeID, request: Request) -> None:
    before, after = policy(rules), policy([*rules, replace(further, effect="deny")])
    assert accepts(before, peer, request) or not accepts(after, peer, request)
    assert may_connect(before, peer) or not may_connect(after, peer)
    assert after.trust_domains() == before.trust_domains()


@settings(deadline=None)
@given(IDS, REQUESTS, st.lists(RULES, max_size=3))
def test_nothing_allows_nobody(peer: SpiffeID, request: Request, rules: list[Rule]) -> None:
    for empty in (Policy(), policy([replace(rule, effect="deny") for rule in rules])):
        assert not accepts(empty, peer, request)
        assert not may_connect(empty, peer)
        assert empty.trust_domains() == frozenset()


@settings(deadline=None)
@given(RULE_LISTS, st.randoms(use_true_random=False), IDS, REQUESTS)
def test_order_says_nothing(rules: list[Rule], random: object, peer: SpiffeID, request: Request) -> None:
    named = list(policy(rules).rules)
    shuffled = list(named)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Policy(named), Policy(shuffled)
    assert one == other
    assert one.decide(peer, request) == other.decide(peer, request)
    assert may_connect(one, peer) == may_connect(other, peer)


@settings(deadline=None)
@given(RULE_LISTS, IDS, REQUESTS)
def test_who_is_accepted_for_something_may_connect_from_a_trust_domain_that_is_named(
    rules: list[Rule], peer: SpiffeID, request: Request
) -> None:
    found = policy(rules)
    if accepts(found, peer, request):
        assert may_connect(found, peer)
    if may_connect(found, peer):
        assert peer.trust_domain in found.trust_domains()


@settings(deadline=None)
@given(RULE_LISTS, IDS, REQUESTS)
def test_explanations_agree_with_decisions(rules: list[Rule], peer: SpiffeID, request: Request) -> None:
    found = policy(rules)
    effects = {each.rule.effect for each in found.explain(peer, request) if each.matches}
    assert accepts(found, peer, request) == (effects == {"allow"})


@settings(deadline=None)
@given(st.text(), st.text(), st.none() | st.text(), IDS)
def test_no_text_breaks_a_decision(method: str, path: str, raw: str | None, peer: SpiffeID) -> None:
    allow = policy([Rule("x", "allow", frozenset({peer}), None)])
    for request in (Request.http(method, path, raw), Request.grpc(path), Request.database(method, path)):
        assert allow.decide(peer, request).allowed == (not request.fault)
        assert "\n" not in str(request)
