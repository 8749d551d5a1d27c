"""Ask the newest policy, count what it says by which rule, and refuse; or, by a switch in code, only report."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from authsec_sdk.authz import Authorizer, Decision, Policy, Request
from authsec_sdk.errors import PeerNotAuthorizedError
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.spiffe import SpiffeID, TrustDomain

__all__ = ["DecisionHook", "Enforcement"]

DecisionHook = Callable[[Decision], None]
"""Called with each decision, in the thread that asked. What it raises is logged and changes nothing."""

_logger = logging.getLogger(__name__)

_NO_RULE: Final = ""


class Enforcement:
    """Decisions of whichever policy is the newest. Thread-safe.

    With `unsafe_report_only` nobody is refused, in handshakes neither: refusals are counted, logged and told alone.
    """

    def __init__(
        self,
        newest: Callable[[], Policy],
        *,
        unsafe_report_only: bool = False,
        on_decision: DecisionHook | None = None,
    ) -> None:
        self._newest: Final = newest
        self._on_decision: Final = on_decision
        self.report_only: Final = unsafe_report_only
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._log: Final = PacedLog(_logger)
        if unsafe_report_only:
            _logger.warning("the policy is only reported: nobody is refused by it")

    def authorize(self, peer: SpiffeID, request: Request) -> None:
        """Return if the newest policy accepts, or is only reported.

        Raises:
            PeerNotAuthorizedError: it refuses.
        """
        decision = self._newest().decide(peer, request)
        outcome = "allowed" if decision.allowed else "reported" if self.report_only else "refused"
        with self._lock:
            for rule in decision.rules:
                self._counts[rule.name, outcome] += 1
            if not decision.rules:
                self._counts[_NO_RULE, outcome] += 1
        if self._on_decision is not None:
            try:
                self._on_decision(decision)
            except Exception:
                _logger.exception("the hook on_decision failed; the decision stands")
        if self.report_only:
            if not decision.allowed:
                self._report(peer, f"{request}: {decision.reason}")
            return
        decision.raise_if_refused()

    def may_connect(self, peer: SpiffeID) -> None:
        """Return if the newest policy could accept something of this peer, or is only reported.

        Raises:
            PeerNotAuthorizedError: it could not.
        """
        try:
            self._newest().may_connect(peer)
        except PeerNotAuthorizedError as refusal:
            with self._lock:
                self._counts[_NO_RULE, "reported" if self.report_only else "refused"] += 1
            if not self.report_only:
                raise
            self._report(peer, str(refusal))

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often each rule, by name, decided what: `allowed`, `refused`, or `reported` instead of refused.

        The name is empty where no rule decided. Of a decision by several rules each is counted. Rules that are gone
        from the document keep their counts.
        """
        with self._lock:
            return MappingProxyType(dict(self._counts))

    def authorizer(self, trust_domains: frozenset[TrustDomain] | None) -> Authorizer:
        """Who may connect by the newest policy; in `trust_domains`, where documents may name no others."""
        return _Connecting(self, trust_domains)

    def _report(self, peer: SpiffeID, text: str) -> None:
        self._log.warning("would be refused, and is only reported: %s peer=%s", text, peer)


class _Connecting:
    def __init__(self, enforcement: Enforcement, trust_domains: frozenset[TrustDomain] | None) -> None:
        self._enforcement = enforcement
        self._trust_domains = trust_domains

    def __call__(self, peer: SpiffeID) -> None:
        self._enforcement.may_connect(peer)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return self._trust_domains

    def __str__(self) -> str:
        return "whom the policy allows something"
