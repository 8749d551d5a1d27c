"""Follow one bundle endpoint: what is known of its domain, and what the next attempt makes of it."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from authsec_sdk.errors import InvalidBundleError, SpiffeError
from authsec_sdk.federation.endpoint import BundleEndpoint, SpiffeProfile
from authsec_sdk.federation.errors import StaleBundleError
from authsec_sdk.federation.fetch import Fetcher
from authsec_sdk.federation.refresh import News, RefreshPolicy, judge
from authsec_sdk.federation.status import EndpointStatus
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.workloadapi.repeats import Repeats

__all__ = ["Attempt", "Follower"]

_logger = logging.getLogger(__name__.rpartition(".")[0])


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended, and how many seconds to wait before the next. `error` is None after a success."""

    wait: float
    news: News | None = None
    error: SpiffeError | None = None
    rejected: bool = False
    recovered: bool = False


class Follower:
    """What is known of one domain. Written by the shared thread alone; each attribute is replaced whole.

    `trust` returns the newest bundle that the source knows of a domain.
    """

    def __init__(
        self,
        endpoint: BundleEndpoint,
        fetcher: Fetcher,
        policy: RefreshPolicy,
        trust: Callable[[TrustDomain], TrustBundle | None],
    ) -> None:
        self.endpoint = endpoint
        self.known: TrustBundle | None = endpoint.first_bundle
        self._highest = None if self.known is None else self.known.sequence_number
        self.status = EndpointStatus(endpoint.trust_domain, endpoint.url, known=self.known is not None)
        self._fetcher = fetcher
        self._policy = policy
        self._trust = trust
        self._repeats = Repeats()
        self._oddities = Repeats()

    @property
    def settled(self) -> bool:
        """Whether there is no sense in waiting for this one before the others are published."""
        return self.known is not None or self.status.attempts > 0

    @property
    def needs(self) -> TrustDomain | None:
        """Whose bundle must come first, to prove this server; None where there is one already."""
        profile = self.endpoint.profile
        if not isinstance(profile, SpiffeProfile) or self._trusted(profile) is not None:
            return None
        return profile.endpoint_id.trust_domain

    async def attempt(self) -> Attempt:
        """Fetch once, and keep what is good."""
        profile = self.endpoint.profile
        trust = self._trusted(profile) if isinstance(profile, SpiffeProfile) else None
        try:
            news = judge(self.known, await self._fetcher.fetch(trust), self._highest)
        except SpiffeError as error:
            return self._failed(error.with_traceback(None))
        return self._succeeded(news)

    def _trusted(self, profile: SpiffeProfile) -> TrustBundle | None:
        return self._trust(profile.endpoint_id.trust_domain) or profile.bundle

    def _succeeded(self, news: News) -> Attempt:
        endpoint, bundle = self.endpoint, news.bundle
        first = self.status.last_success is None
        recovered = self.status.failures > 0 or first
        if failures := self._repeats.clear():
            _logger.info(
                "the bundle endpoint answers again trust_domain=%s after_failures=%d", endpoint.trust_domain, failures
            )
        if news.oddity is not None and (count := self._oddities.note(news.oddity)) is not None:
            _logger.warning("took a bundle with a flaw: %s url=%s times=%s", news.oddity, endpoint.url, count)
        if news.changed or first:
            _logger.info(
                "fetched a bundle trust_domain=%s url=%s sequence=%s x509=%d jwt=%d",
                endpoint.trust_domain,
                endpoint.url,
                bundle.sequence_number,
                len(bundle.x509_authorities),
                len(bundle.jwt_authorities),
            )
        self.known = bundle
        if bundle.sequence_number is not None:
            self._highest = bundle.sequence_number
        wait = self._policy.refresh_after(bundle.refresh_hint, random.random())  # noqa: S311 - spreads load
        now = datetime.now(UTC)
        self.status = replace(
            self.status,
            known=True,
            current=True,
            sequence_number=bundle.sequence_number,
            last_attempt=now,
            last_success=now,
            next_attempt=now + timedelta(seconds=wait),
            attempts=self.status.attempts + 1,
            updates=self.status.updates + news.changed,
            failures=0,
        )
        return Attempt(wait, news=news, recovered=recovered)

    def _failed(self, error: SpiffeError) -> Attempt:
        endpoint, known = self.endpoint, self.known
        rejected = isinstance(error, (InvalidBundleError, StaleBundleError))
        failures = self.status.failures + 1
        hint = None if known is None else known.refresh_hint
        wait = self._policy.retry_after(failures, hint, random.random())  # noqa: S311 - spreads load
        count = self._repeats.note(str(error))
        _logger.log(
            logging.DEBUG if count is None else logging.WARNING,
            "no bundle fetched, %s: %s trust_domain=%s url=%s times=%s retry_in=%.1fs",
            "nothing is known yet" if known is None else "keeping what was known",
            error,
            endpoint.trust_domain,
            endpoint.url,
            count or "more",
            wait,
        )
        now = datetime.now(UTC)
        self.status = replace(
            self.status,
            current=False,
            last_attempt=now,
            next_attempt=now + timedelta(seconds=wait),
            attempts=self.status.attempts + 1,
            rejected=self.status.rejected + rejected,
            failures=failures,
            last_error=error,
            last_error_at=now,
        )
        return Attempt(wait, error=error, rejected=rejected)
