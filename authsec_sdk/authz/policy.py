"""A policy: a set of rules that says which peer may do what, and why; pure.

A request is accepted if at least one rule that allows matches it and no rule that denies does. So the order of rules
says nothing, a further `deny` never allows more, and a policy without rules refuses everybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from authsec_sdk.authz.authorizers import Authorizer
from authsec_sdk.authz.request import Request
from authsec_sdk.authz.rules import Rule
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, PeerNotAuthorizedError
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = ["Decision", "Policy", "RequestAuthorizer", "RuleFinding", "authorize_request", "require_request_authorizer"]

_PEERS_KEPT: Final = 4096


@runtime_checkable
class RequestAuthorizer(Protocol):
    """Decides whether a peer, whose ID is already proven, may have what it asks for."""

    @property
    def generation(self) -> int:
        """Changes whenever what was accepted before might be refused now: streams that live on are judged again."""
        ...

    @property
    def authorizer(self) -> Authorizer:
        """Who may connect at all: whoever could be accepted for something."""
        ...

    def authorize(self, peer: SpiffeID, request: Request) -> None:
        """Accept by returning None.

        Raises:
            PeerNotAuthorizedError: refused.
        """
        ...


def authorize_request(policy: RequestAuthorizer, peer: SpiffeID, request: Request) -> None:
    """Ask a policy: the one way in which integrations do. Returns if it accepts.

    Raises:
        PeerNotAuthorizedError: it refuses; or it returned something other than None, or failed with another exception,
            which is then the cause.
    """
    try:
        answer: object = policy.authorize(peer, request)  # type: ignore[func-returns-value]  # that is the question
    except PeerNotAuthorizedError:
        raise
    except Exception as error:
        raise PeerNotAuthorizedError(
            peer, f"a decision on {request}", f"the policy failed with {type(error).__name__}: mend it"
        ) from error
    if answer is not None:
        raise PeerNotAuthorizedError(
            peer, f"a decision on {request}", f"the policy returned {type(answer).__name__} where only None accepts"
        )


def require_request_authorizer(candidate: object) -> RequestAuthorizer:
    """Check, when a server is made, that `candidate` can be asked about requests, and return it.

    Raises:
        InvalidAuthorizerError: it cannot.
    """
    if isinstance(candidate, type) or not isinstance(candidate, RequestAuthorizer):
        raise InvalidAuthorizerError(
            f"a policy is a Policy, or a PolicyFile of authsec_sdk.policyfile, not a {type(candidate).__name__}"
        )
    return candidate


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of one peer and one request, and why. `rules` are those which decided, by name."""

    peer: SpiffeID
    request: Request
    allowed: bool
    rules: tuple[Rule, ...]
    reason: str
    remedy: str

    def raise_if_refused(self) -> None:
        """Return if it accepts.

        Raises:
            PeerNotAuthorizedError: it does not.
        """
        if not self.allowed:
            raise PeerNotAuthorizedError(self.peer, f"{self.request}, and {self.reason}", self.remedy)


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """Whether one rule matched, and if not, what of it did not."""

    rule: Rule
    names_peer: bool
    covers_request: bool

    @property
    def matches(self) -> bool:
        """Whether the rule counts."""
        return self.names_peer and self.covers_request


class Policy:
    """A frozen set of rules. Equal to another one with the same rules, in whatever order.

    Raises:
        CallerError: two rules have one name.
    """

    __slots__ = ("_known", "rules")

    generation: Final = 0

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules: Final = tuple(sorted(rules, key=lambda rule: rule.name))
        self._known: dict[SpiffeID, tuple[Rule, ...]] = {}
        for one, next_ in zip(self.rules, self.rules[1:], strict=False):
            if one.name == next_.name:
                raise CallerError(f"two rules are called {one.name!r}: counters and refusals could not tell them apart")

    def authorize(self, peer: SpiffeID, request: Request) -> None:
        """Return if `peer` may have what it asks for.

        Raises:
            PeerNotAuthorizedError: it may not.
        """
        self.decide(peer, request).raise_if_refused()

    def decide(self, peer: SpiffeID, request: Request) -> Decision:
        """Say whether `peer` may have what it asks for, and why."""
        if request.fault:
            return Decision(peer, request, False, (), request.fault, "let the client send what reads one way only")
        matching = [rule for rule in self._about(peer) if rule.covers(request)]
        denying = tuple(rule for rule in matching if rule.effect == "deny")
        if denying:
            names = _names(denying)
            return Decision(
                peer, request, False, denying, f"{names} denies it", f"if it should not, take the peer out of {names}"
            )
        if matching:
            return Decision(peer, request, True, tuple(matching), f"{_names(matching)} allows it", "")
        return Decision(
            peer, request, False, (), "no rule allows it", "if one should, add the peer or the request to a rule"
        )

    def explain(self, peer: SpiffeID, request: Request) -> tuple[RuleFinding, ...]:
        """Say of each rule, by name, whether it is about this peer and this request."""
        return tuple(
            RuleFinding(rule, rule.names(peer), not request.fault and rule.covers(request)) for rule in self.rules
        )

    @property
    def authorizer(self) -> Authorizer:
        """Who may connect: whom a rule allows something, and no rule denies everything."""
        return _Connecting(self)

    def trust_domains(self) -> frozenset[TrustDomain]:
        """Return every trust domain in which a peer could be accepted for something."""
        allowing = [rule.trust_domains() for rule in self.rules if rule.effect == "allow"]
        return frozenset().union(*allowing)

    def may_connect(self, peer: SpiffeID) -> None:
        """Return if there could be a request of this peer's that is accepted; used in handshakes.

        Raises:
            PeerNotAuthorizedError: there is none.
        """
        about = self._about(peer)
        if denying := [rule for rule in about if rule.effect == "deny" and rule.scopes is None]:
            names = _names(denying)
            raise PeerNotAuthorizedError(
                peer, f"a connection, and {names} denies everything", f"if it should not, take the peer out of {names}"
            )
        if not any(rule.effect == "allow" for rule in about):
            raise PeerNotAuthorizedError(
                peer, "a connection, and no rule allows it anything", "if one should, add the peer to a rule"
            )

    def __eq__(self, other: object) -> bool:
        return self.rules == other.rules if isinstance(other, Policy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.rules)

    def __repr__(self) -> str:
        return f"<Policy of {len(self.rules)} rules>"

    def _about(self, peer: SpiffeID) -> tuple[Rule, ...]:
        known = self._known.get(peer)
        if known is None:
            known = tuple(rule for rule in self.rules if rule.names(peer))
            if len(self._known) >= _PEERS_KEPT:
                self._known.clear()
            self._known[peer] = known
        return known


@dataclass(frozen=True, slots=True)
class _Connecting:
    policy: Policy

    def __call__(self, peer: SpiffeID) -> None:
        self.policy.may_connect(peer)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return self.policy.trust_domains()

    def __str__(self) -> str:
        return "whom the policy allows something"


def _names(rules: Iterable[Rule]) -> str:
    found = [f"rule {rule.name!r}" + ("" if rule.place is None else f" (line {rule.place.line})") for rule in rules]
    return ", ".join(found if len(found) <= 5 else [*found[:4], f"{len(found) - 4} more"])
