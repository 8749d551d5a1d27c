"""What a rule is about, what a policy decides of it, and why it says so."""

from __future__ import annotations

from typing import Any

import pytest

from authsec_sdk.authz import Policy, Request, authorize, authorize_request, require_authorizer
from authsec_sdk.authz import require_request_authorizer as require
from authsec_sdk.authz.policy_document import Node, read_policy
from authsec_sdk.authz.rules import Place
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, PeerNotAuthorizedError
from authsec_sdk.spiffe import SpiffeID, TrustDomain

WEB, DB = SpiffeID.parse("spiffe://example.org/ns/shop/sa/web"), SpiffeID.parse("spiffe://example.org/ns/shop/sa/db")
FAR = SpiffeID.parse("spiffe://example.com/ns/shop/sa/web")


def node(value: object) -> Node:
    """Plain data as a document that has no places."""
    if isinstance(value, dict):
        return Node({key: (Place(1, 1), node(each)) for key, each in value.items()}, None)
    if isinstance(value, list):
        return Node(tuple(node(each) for each in value), None)
    assert value is None or isinstance(value, str | int | float | bool)
    return Node(value, None)


def policy(*rules: dict[str, Any]) -> Policy:
    named = [{"name": f"rule-{number}", **rule} for number, rule in enumerate(rules)]
    return read_policy(node({"version": 1, "rules": named}))


def accepts(rules: Policy, peer: SpiffeID, request: Request) -> bool:
    try:
        rules.authorize(peer, request)
    except PeerNotAuthorizedError:
        assert not rules.decide(peer, request).allowed
        return False
    assert rules.decide(peer, request).allowed
    return True


GET = Request.http("GET", "/orders/1")


# --- whom a rule names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "named"),
    [
        (str(WEB), [WEB]),
        ([str(WEB), str(DB)], [WEB, DB]),
        ("spiffe://example.org/ns/*/sa/web", [WEB]),
        ("spiffe://example.org/ns/shop/**", [WEB, DB]),
        ("spiffe://example.org/**", [WEB, DB]),
        ("example.org", [WEB, DB]),
        (["example.com", str(DB)], [DB, FAR]),
        ("spiffe://example.org/ns/*", []),
        ("spiffe://example.org/NS/shop/sa/web", []),
        ("org", []),
    ],
)
def test_whom_a_rule_names(peers: Any, named: list[SpiffeID]) -> None:
    rules = policy({"allow": peers, "everything": True})
    assert [peer for peer in (WEB, DB, FAR) if accepts(rules, peer, GET)] == named


# --- of what it speaks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "good", "wrong"),
    [
        ("/", ["/"], ["/a", "/a/"]),
        ("/a", ["/a", "/a/"], ["/", "/A", "/a/b", "/ab", "/b"]),
        ("/a/*", ["/a/b", "/a/b/", "/a/*"], ["/a", "/a/", "/a/b/c"]),
        ("/a/*/c", ["/a/b/c"], ["/a/c", "/a/b/d", "/a/b/b/c"]),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c/"], ["/", "/b", "/ab"]),
        ("/**", ["/", "/a", "/a/b"], []),
        ("/é x", ["/é x"], ["/e x"]),
        ("/a;b", ["/a;b"], ["/a"]),
    ],
)
def test_paths(pattern: str, good: list[str], wrong: list[str]) -> None:
    rules = policy({"allow": str(WEB), "http": {"paths": pattern}})
    assert [path for path in good + wrong if accepts(rules, WEB, Request.http("GET", path))] == good


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("", None),
        ("a", None),
        ("//a", None),
        ("/a//b", None),
        ("/a//", None),
        ("/./a", None),
        ("/a/..", None),
        ("/a/../b", None),
        ("/a\\b", None),
        ("/a\x00", None),
        ("/a\nb", None),
        ("/a\x7f", None),
        ("/a\x85", None),
        ("/%2e%2e/b", None),  # decoded once: somebody would do it again
        ("/a\ufffdb", None),
        ("/a" + chr(0xDCFF), None),
        ("/" + "a" * 8192, None),
        ("/a/b", "/a%2Fb"),
        ("/a/b", "/a%2fb"),
        ("/a", "/a%5Cb"),
        ("/a", "/a%00"),
        ("/a%2e", "/a%252e"),
        ("/a", "/a%"),
        ("/a", "/a%zz"),
        ("http://example.org/a", "http://example.org/a"),
        ("*", "*"),
    ],
)
def test_a_path_that_reads_in_two_ways_is_refused_by_every_policy(path: str, raw: str | None) -> None:
    request = Request.http("GET", path, raw)
    assert request.fault
    rules = policy({"allow": "example.org", "everything": True})
    assert not accepts(rules, WEB, request)
    assert rules.decide(WEB, request).rules == ()
    assert "\n" not in str(request)


def test_what_is_encoded_without_need_and_queries_are_no_matter() -> None:
    assert not Request.http("GET", "/aé b", "/%61%C3%A9%20b?x=%2F..%00").fault


@pytest.mark.parametrize("method", ["get", "Get", "", "GET ", "G\nET", "G" * 33, "GÉT"])
def test_a_method_that_is_no_token_in_upper_case_is_refused(method: str) -> None:
    assert not accepts(policy({"allow": "example.org", "everything": True}), WEB, Request.http(method, "/"))


@pytest.mark.parametrize(
    ("methods", "good"),
    [
        (None, ["GET", "HEAD", "POST", "OPTIONS"]),
        ("GET", ["GET", "HEAD"]),
        ("HEAD", ["HEAD"]),
        (["POST", "OPTIONS"], ["POST", "OPTIONS"]),
    ],
)
def test_methods(methods: Any, good: list[str]) -> None:
    http = {"paths": "/"} if methods is None else {"paths": "/", "methods": methods}
    rules = policy({"allow": str(WEB), "http": http})
    tried = ["GET", "HEAD", "POST", "OPTIONS"]
    assert [method for method in tried if accepts(rules, WEB, Request.http(method, "/"))] == good


@pytest.mark.parametrize(
    ("pattern", "good"),
    [
        ("/a.S/Get", ["/a.S/Get"]),
        ("/a.S/*", ["/a.S/Get", "/a.S/Put"]),
        ("/*", ["/a.S/Get", "/a.S/Put", "/a.T/Get", "/S/Get"]),
        (["/a.S/Put", "/S/*"], ["/a.S/Put", "/S/Get"]),
    ],
)
def test_grpc_methods(pattern: Any, good: list[str]) -> None:
    rules = policy({"allow": str(WEB), "grpc": pattern})
    tried = ["/a.S/Get", "/a.S/Put", "/a.T/Get", "/S/Get"]
    assert [method for method in tried if accepts(rules, WEB, Request.grpc(method))] == good


@pytest.mark.parametrize("method", ["", "a.S/Get", "/a.S/", "/a.S/*", "/a..S/Get", "/a.S/Get/x", "/a.S/Get\n", "/*"])
def test_an_odd_grpc_method_is_refused(method: str) -> None:
    assert not accepts(policy({"allow": "example.org", "everything": True}), WEB, Request.grpc(method))


def test_databases_and_roles() -> None:
    rules = policy(
        {"allow": str(WEB), "database": {"names": "orders", "roles": ["reader", "writer"]}},
        {"allow": str(DB), "database": [{"names": "*", "roles": "reader"}, {"names": ["a", "b"], "roles": "*"}]},
    )
    for peer, name, role, expected in [
        (WEB, "orders", "writer", True),
        (WEB, "orders", "admin", False),
        (WEB, "other", "reader", False),
        (DB, "other", "reader", True),
        (DB, "a", "admin", True),
        (DB, "c", "admin", False),
        (DB, "a", 'x"y', False),
        (DB, "a b", "reader", False),
    ]:
        assert accepts(rules, peer, Request.database(name, role)) is expected, (name, role)


def test_a_rule_of_one_kind_says_nothing_of_others() -> None:
    rules = policy({"allow": str(WEB), "http": {"paths": "/**"}})
    assert not accepts(rules, WEB, Request.grpc("/a.S/Get"))
    assert not accepts(rules, WEB, Request.database("a", "b"))
    rules = policy({"allow": str(WEB), "grpc": "/*", "database": {"names": "*", "roles": "*"}})
    assert not accepts(rules, WEB, GET)


# --- decisions -------------------------------------------------------------------------------------------------------


def test_deny_wins_and_the_refusal_names_id_rule_and_remedy() -> None:
    rules = policy({"allow": "example.org", "everything": True}, {"deny": str(DB), "http": {"paths": "/orders/**"}})
    assert accepts(rules, WEB, GET)
    assert accepts(rules, DB, Request.http("GET", "/"))
    with pytest.raises(PeerNotAuthorizedError) as info:
        rules.authorize(DB, GET)
    assert info.value.spiffe_id == DB
    for text in (str(DB), "rule-1", "GET '/orders/1'", "take the peer out of"):
        assert text in str(info.value)


def test_no_rule_is_a_refusal_and_says_so() -> None:
    decision = policy().decide(WEB, GET)
    assert (decision.allowed, decision.rules, decision.reason) == (False, (), "no rule allows it")


def test_explain_says_of_each_rule_what_did_not_match() -> None:
    rules = policy(
        {"allow": str(WEB), "http": {"paths": "/orders/*"}},
        {"allow": str(DB), "http": {"paths": "/orders/*"}},
        {"deny": str(WEB), "grpc": "/*"},
    )
    found = [(each.names_peer, each.covers_request, each.matches) for each in rules.explain(WEB, GET)]
    assert found == [(True, True, True), (False, True, False), (True, False, False)]
    assert not any(each.matches for each in rules.explain(WEB, Request.http("GET", "//")))


def test_who_may_connect_is_who_may_do_something() -> None:
    rules = policy(
        {"allow": [str(WEB), str(DB), "example.com"], "http": {"paths": "/"}},
        {"deny": str(DB), "everything": True},
        {"deny": str(WEB), "http": {"paths": "/x"}},
        {"deny": "example.net", "everything": True},
    )
    authorizer = require_authorizer(rules.authorizer)
    authorize(authorizer, WEB)
    authorize(authorizer, FAR)
    for peer in (DB, SpiffeID.parse("spiffe://example.net/x"), SpiffeID.parse("spiffe://example.org/other")):
        with pytest.raises(PeerNotAuthorizedError):
            authorize(authorizer, peer)
    assert authorizer.trust_domains() == frozenset({TrustDomain("example.org"), TrustDomain("example.com")})
    assert policy().authorizer.trust_domains() == frozenset()


def test_policies_are_values() -> None:
    one = {"name": "a", "allow": [str(WEB), str(DB)], "http": [{"paths": ["/a", "/b"]}]}
    same = {"name": "a", "allow": [str(DB), str(WEB), str(WEB)], "http": {"paths": ["/b", "/a"]}}
    other = {"name": "b", "allow": str(WEB), "grpc": "/*"}
    assert policy(one, other) == policy(other, same)
    assert hash(policy(one, other)) == hash(policy(other, same))
    assert policy(one) != policy(one, other)
    with pytest.raises(CallerError, match="two rules"):
        Policy([*policy(one).rules, *policy(same).rules])


def test_many_peers_do_not_fill_the_memory() -> None:
    rules = policy({"allow": "example.org", "everything": True})
    for number in range(9000):
        assert accepts(rules, SpiffeID.parse(f"spiffe://example.org/w/{number}"), GET)
    assert len(rules._known) <= 4096


# --- how servers ask -------------------------------------------------------------------------------------------------


class _Broken:
    generation = 0
    authorizer = policy().authorizer

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def authorize(self, peer: SpiffeID, request: Request) -> Any:
        del peer, request
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize("answer", [False, True, ValueError("x"), CallerError("closed")])
def test_only_none_accepts(answer: Any) -> None:
    authorize_request(_Broken(None), WEB, GET)
    with pytest.raises(PeerNotAuthorizedError, match=r"mend it|where only None accepts"):
        authorize_request(_Broken(answer), WEB, GET)


@pytest.mark.parametrize("candidate", [None, "policy.yaml", Policy, lambda peer, request: None])
def test_what_is_no_policy_is_refused_at_once(candidate: Any) -> None:
    with pytest.raises(InvalidAuthorizerError):
        require(candidate)
