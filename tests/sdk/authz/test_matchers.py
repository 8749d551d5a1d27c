"""Who is accepted by whom, by combinations, and which trust domains that narrows trust to."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.authz import (
    Authorizer,
    all_of,
    any_of,
    authorize,
    authorize_id,
    authorize_if,
    authorize_member_of,
    authorize_one_of,
    authorize_path,
    not_,
    unsafe_authorize_any,
)
from authsec_sdk.errors import (
    InvalidAuthorizerError,
    InvalidSpiffeIDError,
    InvalidTrustDomainError,
    PeerNotAuthorizedError,
)
from authsec_sdk.spiffe import SpiffeID, TrustDomain

A, B, C = (TrustDomain(name) for name in ("a.test", "b.test", "c.test"))
WEB, DB = SpiffeID.parse("spiffe://a.test/web"), SpiffeID.parse("spiffe://a.test/db")
FAR = SpiffeID.parse("spiffe://b.test/web")
PEERS = [WEB, DB, FAR, SpiffeID.parse("spiffe://c.test/ns/x/sa/web"), SpiffeID.parse("spiffe://a.test/web/1")]


def accepts(authorizer: Authorizer, peer: SpiffeID) -> bool:
    try:
        authorize(authorizer, peer)
    except PeerNotAuthorizedError:
        return False
    return True


@pytest.mark.parametrize(
    ("authorizer", "accepted"),
    [
        (authorize_id(WEB), [WEB]),
        (authorize_id("spiffe://a.test/web"), [WEB]),
        (authorize_one_of(WEB, "spiffe://b.test/web"), [WEB, FAR]),
        (authorize_member_of(A), [WEB, DB, PEERS[4]]),
        (authorize_member_of("a.test", B), [WEB, DB, FAR, PEERS[4]]),
        (authorize_member_of("spiffe://b.test/whatever"), [FAR]),
        (authorize_path("spiffe://a.test/*"), [WEB, DB]),
        (authorize_path("spiffe://a.test/**"), [WEB, DB, PEERS[4]]),
        (authorize_path("spiffe://c.test/ns/*/sa/web"), [PEERS[3]]),
        (authorize_if(lambda peer: peer.path == "/web", "a peer called web"), [WEB, FAR]),
        (unsafe_authorize_any(), PEERS),
        (not_(authorize_id(WEB)), PEERS[1:]),
        (not_(not_(authorize_id(WEB))), [WEB]),
        (not_(unsafe_authorize_any()), []),
        (all_of(authorize_member_of(A), not_(authorize_id(DB))), [WEB, PEERS[4]]),
        (all_of(authorize_id(WEB)), [WEB]),
        (all_of(authorize_id(WEB), authorize_id(DB)), []),
        (any_of(authorize_id(WEB), authorize_member_of(B)), [WEB, FAR]),
        (any_of(authorize_id(DB)), [DB]),
        (any_of(all_of(authorize_member_of(A), authorize_path("spiffe://a.test/*")), authorize_id(FAR)), PEERS[:3]),
    ],
    ids=str,
)
def test_who_is_accepted(authorizer: Authorizer, accepted: list[SpiffeID]) -> None:
    for peer in PEERS:
        if peer in accepted:
            authorize(authorizer, peer)
        else:
            with pytest.raises(PeerNotAuthorizedError) as refusal:
                authorize(authorizer, peer)
            assert refusal.value.spiffe_id == peer
            assert refusal.value.wanted
            assert refusal.value.action
            for part in (str(peer), refusal.value.wanted, refusal.value.action):
                assert part in str(refusal.value)


@pytest.mark.parametrize("combine", [authorize_one_of, authorize_member_of, all_of, any_of])
def test_combinations_of_nothing_are_refused_when_made(combine: Any) -> None:
    with pytest.raises(InvalidAuthorizerError, match="would accept nobody"):
        combine()
    with pytest.raises((InvalidAuthorizerError, InvalidSpiffeIDError)):
        combine([])


@pytest.mark.parametrize("wrong", ["", "a.test/web", "spiffe://A.test/web", "spiffe://a.test/*", None, 5, [WEB], {WEB}])
def test_wrong_ids_are_refused_when_made(wrong: Any) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        authorize_id(wrong)
    with pytest.raises(InvalidSpiffeIDError):
        authorize_one_of(WEB, wrong)


@pytest.mark.parametrize("wrong", ["", "A.test", "a.test/web", "*", "*.test", None, WEB, [A]])
def test_wrong_trust_domains_are_refused_when_made(wrong: Any) -> None:
    with pytest.raises(InvalidTrustDomainError):
        authorize_member_of(wrong)


def test_a_predicate_answers_true_or_false_and_nothing_else() -> None:
    for answer in (None, 1, 0, "yes", "", WEB, object()):
        with pytest.raises(PeerNotAuthorizedError, match="return True or False"):
            authorize(authorize_if(lambda peer, answer=answer: answer, "x"), WEB)  # type: ignore[misc]


def test_a_predicate_that_fails_refuses() -> None:
    def fail(peer: SpiffeID) -> bool:
        raise LookupError("no table")

    with pytest.raises(PeerNotAuthorizedError, match="LookupError"):
        authorize(authorize_if(fail, "those in the table"), WEB)


def test_wrong_predicates_are_refused_when_made() -> None:
    async def wait(peer: SpiffeID) -> bool:
        return True

    wrong_predicates: list[Any] = [None, True, wait, SpiffeID, lambda: True]
    for wrong in wrong_predicates:
        with pytest.raises(InvalidAuthorizerError):
            authorize_if(wrong, "x")
    descriptions: list[Any] = ["", "  ", None]
    for description in descriptions:
        with pytest.raises(InvalidAuthorizerError, match="description"):
            authorize_if(lambda peer: True, description)


# --- an authorizer that fails opens nothing, wherever it stands ------------------------------------------------------


def broken(peer: SpiffeID) -> None:
    raise RuntimeError("out of order")


def falsy(peer: SpiffeID) -> None:
    return False  # type: ignore[return-value]


NO = not_(unsafe_authorize_any())
YES = unsafe_authorize_any()


@pytest.mark.parametrize("bad", [broken, falsy])
@pytest.mark.parametrize(
    "build",
    [
        lambda bad: not_(bad),
        lambda bad: not_(not_(bad)),
        lambda bad: not_(any_of(bad, NO)),
        lambda bad: not_(any_of(NO, bad)),
        lambda bad: not_(all_of(bad, NO)),
        lambda bad: not_(all_of(YES, bad)),
        lambda bad: any_of(bad, NO),
        lambda bad: all_of(YES, bad),
        lambda bad: all_of(YES, not_(bad)),
        lambda bad: any_of(NO, not_(any_of(NO, not_(bad)))),
        lambda bad: not_(authorize_if(lambda peer: None, "nobody")),  # type: ignore[arg-type,return-value]
    ],
)
def test_nothing_makes_consent_of_a_failure(build: Any, bad: Any) -> None:
    with pytest.raises(PeerNotAuthorizedError):
        authorize(build(bad), WEB)


def test_consent_beside_a_failure_stands() -> None:
    authorize(any_of(broken, YES), WEB)
    authorize(any_of(YES, broken), WEB)
    authorize(not_(all_of(NO, broken)), WEB)  # a decision, reached before the failure


# --- narrowing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorizer", "expected"),
    [
        (authorize_id(WEB), {A}),
        (authorize_one_of(WEB, DB, FAR), {A, B}),
        (authorize_member_of(A, C), {A, C}),
        (authorize_path("spiffe://c.test/**"), {C}),
        (authorize_if(lambda peer: True, "x"), None),
        (unsafe_authorize_any(), None),
        (not_(authorize_member_of(A)), None),
        (any_of(authorize_id(WEB), authorize_member_of(B)), {A, B}),
        (any_of(authorize_id(WEB), unsafe_authorize_any()), None),
        (any_of(not_(authorize_id(WEB))), None),
        (all_of(authorize_member_of(A, B), authorize_member_of(B, C)), {B}),
        (all_of(authorize_member_of(A), not_(authorize_id(DB))), {A}),
        (all_of(unsafe_authorize_any(), authorize_if(lambda peer: True, "x")), None),
        (all_of(authorize_member_of(A), authorize_member_of(B)), set()),
        (any_of(all_of(authorize_member_of(A), broken), authorize_id(FAR)), {A, B}),
        (all_of(any_of(authorize_id(WEB), authorize_id(FAR)), authorize_member_of(A)), {A}),
    ],
    ids=lambda value: (
        value
        if value is None or isinstance(value, str)
        else (",".join(sorted(map(str, value))) if isinstance(value, set) else str(value))
    ),
)
def test_trust_is_narrowed_to(authorizer: Authorizer, expected: set[TrustDomain] | None) -> None:
    assert authorizer.trust_domains() == (None if expected is None else frozenset(expected))


atoms = st.one_of(
    st.sampled_from(PEERS).map(authorize_id),
    st.lists(st.sampled_from(PEERS), min_size=1, max_size=3).map(lambda ids: authorize_one_of(*ids)),
    st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=2).map(lambda domains: authorize_member_of(*domains)),
    st.sampled_from(["spiffe://a.test/*", "spiffe://a.test/**", "spiffe://c.test/ns/*/sa/web"]).map(authorize_path),
    st.just(unsafe_authorize_any()),
    st.just(authorize_if(lambda peer: len(peer.segments) == 1, "short")),
)
trees = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("all", parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("any", parts)),
        inner.map(lambda part: ("not", [part])),
    ),
    max_leaves=10,
)


def built(tree: Any) -> Authorizer:
    if not isinstance(tree, tuple):
        return tree
    kind, parts = tree
    made = [built(part) for part in parts]
    return not_(*made) if kind == "not" else all_of(*made) if kind == "all" else any_of(*made)


def judged(tree: Any, peer: SpiffeID) -> bool:
    """What the combination should say, by Python's own `all`, `any` and `not`."""
    if not isinstance(tree, tuple):
        return accepts(tree, peer)
    kind, parts = tree
    answers = [judged(part, peer) for part in parts]
    return not answers[0] if kind == "not" else all(answers) if kind == "all" else any(answers)


@given(trees, st.sampled_from(PEERS))
def test_combinations_are_boolean_and_narrowing_never_shuts_out_who_is_accepted(tree: Any, peer: SpiffeID) -> None:
    authorizer = built(tree)
    accepted = accepts(authorizer, peer)
    assert accepted == judged(tree, peer)
    domains = authorizer.trust_domains()
    if accepted and domains is not None:
        assert peer.trust_domain in domains


# --- values ----------------------------------------------------------------------------------------------------------


def test_authorizers_of_the_same_are_equal_and_frozen() -> None:
    assert authorize_one_of(WEB, DB) == authorize_one_of(DB, WEB, DB)
    assert authorize_id(WEB) == authorize_one_of(WEB)
    assert hash(authorize_member_of(A, B)) == hash(authorize_member_of(B, A))
    assert all_of(authorize_id(WEB), authorize_id(DB)) != any_of(authorize_id(WEB), authorize_id(DB))
    authorizer: Any = authorize_id(WEB)
    with pytest.raises((AttributeError, TypeError)):
        authorizer.ids = frozenset({DB})
    assert pickle.loads(pickle.dumps(all_of(authorizer, not_(authorize_member_of(B))))) == all_of(
        authorizer, not_(authorize_member_of(B))
    )


def test_texts_say_whom_an_authorizer_accepts() -> None:
    assert str(authorize_id(WEB)) == "spiffe://a.test/web"
    assert str(authorize_one_of(WEB, DB)) == "spiffe://a.test/db or spiffe://a.test/web"
    assert str(authorize_member_of(B, A)) == "a member of trust domain a.test or b.test"
    assert str(authorize_path("spiffe://a.test/ns/*/**")) == "spiffe://a.test/ns/*/**"
    assert str(authorize_if(lambda peer: True, "weekdays only")) == "weekdays only"
    assert str(unsafe_authorize_any()) == "anybody"
    combined = all_of(authorize_member_of(A), not_(authorize_id(DB)))
    assert str(combined) == "(a member of trust domain a.test) and (not (spiffe://a.test/db))"
    many = authorize_one_of(*(f"spiffe://a.test/{number:03}" for number in range(1000)))
    assert str(many).endswith("or 991 more")
    assert len(str(many)) < 400


def test_operators_are_the_combinations() -> None:
    web, far = authorize_id(WEB), authorize_member_of(B)
    assert web | far == any_of(web, far)
    assert web & far == all_of(web, far)
    assert ~web == not_(web)
    team = authorize_path("spiffe://a.test/**") & ~authorize_id(DB) | far
    assert [peer for peer in PEERS if accepts(team, peer)] == [WEB, FAR, PEERS[4]]
    assert str(~web) == "not (spiffe://a.test/web)"


def test_operators_take_other_authorizers_on_either_side() -> None:
    def of_web(peer: SpiffeID) -> None:
        if peer.path != "/web":
            raise PeerNotAuthorizedError(peer, "web", "be web")

    for both in (of_web & authorize_member_of(A), authorize_member_of(A) & of_web):
        assert [peer for peer in PEERS if accepts(both, peer)] == [WEB]
    for either in (of_web | authorize_id(DB), authorize_id(DB) | of_web):
        assert [peer for peer in PEERS if accepts(either, peer)] == [WEB, DB, FAR]


@pytest.mark.parametrize("other", [None, True, "spiffe://a.test/web", 1])
def test_operators_refuse_what_is_no_authorizer(other: Any) -> None:
    for combine in (lambda: authorize_id(WEB) | other, lambda: other | authorize_id(WEB)):
        with pytest.raises(InvalidAuthorizerError):
            combine()
    for combine in (lambda: authorize_id(WEB) & other, lambda: other & authorize_id(WEB)):
        with pytest.raises(InvalidAuthorizerError):
            combine()
