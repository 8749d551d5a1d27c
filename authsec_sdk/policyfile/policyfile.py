"""The policy that a file holds, always the newest good one: asked by servers, and changed without restarting them."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from authsec_sdk.authz import Authorizer, Policy, Request
from authsec_sdk.errors import ConfigurationError, SpiffeError, UnavailableError
from authsec_sdk.filesource.reading import Fingerprint, state_of
from authsec_sdk.filesource.watch import FileWatch
from authsec_sdk.policyfile.document import format_of, load_policy
from authsec_sdk.policyfile.enforcement import DecisionHook, Enforcement
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.telemetry import SourceName
from authsec_sdk.workloadapi.waiting import WaitingSource

__all__ = ["PolicyFile", "PolicyStatus"]

INTERVAL: Final = 1.0
PATIENCE: Final = 0.1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """A policy file at one moment. Put an alarm on `current`: it is False while the file says what does not count."""

    path: Path
    current: bool
    """Whether the file, when last looked at, held the policy that counts."""
    kept_since: datetime | None
    """Since when the file has been no policy, and the last good one is kept; None if it is current."""
    rules: int
    last_update: datetime | None
    last_error: SpiffeError | None
    """Why the file was last refused, with line and key; stays readable after things are well again."""
    last_error_at: datetime | None
    updates: int
    """How many different policies counted, the first one too."""
    rejected: int
    """How many different states of the file were refused."""
    report_only: bool


class PolicyFile(WaitingSource[Policy]):
    """Reads a policy from a file, at once, and again whenever it changes; is what servers take as `policy`::

        with PolicyFile("policy.yaml", trust_domains=["example.org"]) as policy:
            app = RouteAuthorizationMiddleware(app, policy=policy)
            await serve(app, source, policy.authorizer)

    What holds: there is a good policy from the beginning, or no object. A file that is refused later, or gone, changes
    nothing: the last good policy is kept, which is logged as an error, counted, and said by `status`. A change counts
    once the file has stayed as it is for 100 ms more; replace files by renaming, for a half-written policy may be well
    formed. Each request is judged by the newest policy; `subscribe` is for whatever else is open.
    Not checked: who owns the file. Whoever can write it decides who is accepted, within `trust_domains`.

    Args:
        path: the file; its name ends with `.yaml`, `.yml`, `.toml` or `.json`. Symbolic links are followed.
        trust_domains: in which trust domains its rules may name peers. None is all that we hold bundles of.
        interval: how many seconds between two looks at the file.
        unsafe_report_only: refuse nobody, in handshakes neither, and count, log and tell what would be refused.
        on_decision: is told every decision on a request, in the thread that asked.

    Raises:
        InvalidPolicyError: the file is no policy.
        ConfigurationError: it is no file or too large, its name ends otherwise, or `interval` is not positive.
        UnavailableError: it cannot be read.
        InvalidTrustDomainError: `trust_domains` holds a text that is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        trust_domains: Iterable[TrustDomain | str] | None = None,
        interval: float = INTERVAL,
        unsafe_report_only: bool = False,
        on_decision: DecisionHook | None = None,
    ) -> None:
        if not 0 < interval < float("inf"):
            raise ConfigurationError(f"interval must be a positive number of seconds, not {interval!r}")
        domains = None if trust_domains is None else _domains(trust_domains)
        self.path: Final = Path(path)
        format_of(self.path)
        self._trust_domains: Final = domains
        self._feed: Final = _PolicyFeed(_Document(self.path, domains), interval)
        super().__init__(self._feed, None, wanted=f"policy in {self.path}", silence="it has not been read")
        self._enforcement: Final = Enforcement(
            self._newest, unsafe_report_only=unsafe_report_only, on_decision=on_decision
        )
        self._feed.load_first()

    # --- what servers ask --------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The newest good policy; begins to watch where nobody did. Never blocks.

        Raises:
            SourceClosedError: this was closed.
        """
        return self._newest()

    @property
    def generation(self) -> int:
        """How many policies there have been. Read it before `authorize`, and ask again when it has changed."""
        return self._feed.generation

    @property
    def authorizer(self) -> Authorizer:
        """Who may connect at all, by the newest policy at each handshake: whoever it allows something."""
        return self._enforcement.authorizer(self._trust_domains)

    def authorize(self, peer: SpiffeID, request: Request) -> None:
        """Return if the newest policy accepts a request, or is only reported.

        Raises:
            PeerNotAuthorizedError: it refuses.
            SourceClosedError: this was closed. Servers refuse then.
        """
        self._enforcement.authorize(peer, request)

    # --- what operators ask ------------------------------------------------------------------------------------------

    @property
    def status(self) -> PolicyStatus:
        """How the file is doing. Never blocks, never raises, starts nothing."""
        progress, policy = self._feed.progress, self._feed.value
        return PolicyStatus(
            path=self.path,
            current=policy is not None and progress.failures == 0,
            kept_since=self._feed.failing_since,
            rules=0 if policy is None else len(policy.rules),
            last_update=progress.last_update,
            last_error=progress.last_error,
            last_error_at=progress.last_error_at,
            updates=progress.updates,
            rejected=progress.rejected,
            report_only=self._enforcement.report_only,
        )

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often each rule decided what: see `Enforcement.counts`."""
        return self._enforcement.counts

    def subscribe(self, listener: Callable[[Policy], None]) -> Callable[[], None]:
        """Call `listener` with each new policy, in the thread that watches, and return what ends that.

        For connections that live on: judge their peers again with `policy.may_connect`, and close those it refuses. A
        listener must not block, and what it raises is logged.
        """

        def heard(policy: Policy) -> None:
            try:
                listener(policy)
            except Exception:
                _logger.exception("a listener to a policy failed; the policy counts all the same")

        return self._feed.add_listener(heard)

    def __repr__(self) -> str:
        """Show where it looks and how much it found."""
        status = self.status
        return f"<PolicyFile {self.path} rules={status.rules} current={status.current}>"


class _PolicyFeed(FileWatch[Policy]):
    """A watch over the file of a policy."""

    def __init__(self, document: "_Document", interval: float) -> None:
        name = SourceName("policy", str(document.path))
        super().__init__(name, None, document, interval, patience=min(PATIENCE, interval))
        self._path: Final = document.path
        self.generation = 0
        self.add_listener(self._say_new)
        self.failing_since: datetime | None = None

    def _settle(self, value: Policy) -> None:
        del value
        self.generation += 1  # after `value`: whoever read this one was not judged by an older policy

    def _say_new(self, policy: Policy) -> None:
        _logger.info("a new policy counts rules=%d path=%s", len(policy.rules), self._path)

    def _say_bad(self, error: SpiffeError, times: int | None) -> None:
        self.failing_since = self.failing_since or datetime.now(UTC)
        _logger.log(
            logging.DEBUG if times is None else logging.ERROR,
            "the policy is refused, and the last good one is kept: %s path=%s times=%s",
            error,
            self._path,
            times or "more",
        )

    def _say_good(self) -> None:
        self.failing_since = None
        _logger.info("the policy is good again path=%s", self._path)


class _Document:
    """One file, as what a watch looks at."""

    def __init__(self, path: Path, trust_domains: frozenset[TrustDomain] | None) -> None:
        self.path = path
        self.trust_domains = trust_domains

    def fingerprint(self) -> Fingerprint:
        return (state_of(self.path),)

    def load(self) -> tuple[Policy, Fingerprint]:
        before = self.fingerprint()
        try:
            policy = load_policy(self.path, trust_domains=self.trust_domains)
        except SpiffeError as error:
            if self.fingerprint() != before:
                raise UnavailableError(f"{self.path} was replaced while it was read") from error
            raise
        if self.fingerprint() != before:
            raise UnavailableError(f"{self.path} was replaced while it was read")
        return policy, before

    def __str__(self) -> str:
        return f"path={self.path}"


def _domains(given: Iterable[TrustDomain | str]) -> frozenset[TrustDomain]:
    if isinstance(given, str):
        raise ConfigurationError(f"trust_domains={given!r}: give a list of them")
    domains = frozenset(each if isinstance(each, TrustDomain) else TrustDomain.parse(each) for each in given)
    if not domains:
        raise ConfigurationError("trust_domains names none: everybody would be refused")
    return domains
