"""Which generation the next connection gets: follows a source, builds in its thread, keeps the last good one."""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import (
    InvalidAuthorizerError,
    InvalidX509SVIDError,
    NoIdentityError,
    SpiffeError,
    UnavailableError,
)
from authsec_sdk.spiffe import X509SVID, BundleSet, TrustDomain, X509Bundle, X509Context, X509ContextSource
from authsec_sdk.telemetry import GenerationMade, Observer, observer_of, tell
from authsec_sdk.tls.connection import end_connections
from authsec_sdk.tls.errors import IdentityUnavailableError
from authsec_sdk.tls.generation import Generation
from authsec_sdk.tls.inner import InnerContexts, unloadable
from authsec_sdk.tls.keyload import Identity
from authsec_sdk.tls.limits import TLSLimits, TokenBucket
from authsec_sdk.tls.listening import listen
from authsec_sdk.tls.role import Role
from authsec_sdk.tls.settings import Settings
from authsec_sdk.tls.trust import Seniority, SetAside, TrustPlan, plan_trust
from authsec_sdk.tls.web import WebCertificate, WebRoots

__all__ = ["Built", "Generations"]

logger = logging.getLogger(__name__)

_BURST_SECONDS: Final = 5.0
_SETTINGS_KEPT: Final = 16
_LOG_LINES_PER_SECOND: Final = 1.0
_LOG_BURST: Final = 20.0


@dataclass(slots=True, eq=False)
class Built:
    """What was made of a snapshot: one generation for each combination of settings in use.

    `degraded` if the snapshot's own SVID could not be used and an older one stands in: worth another try.
    """

    snapshot: X509Context
    svid: Identity | None
    plan: TrustPlan
    generations: dict[Settings, Generation] = field(default_factory=dict)
    degraded: bool = False


class _User(Protocol):
    """A context that builds are made for."""

    _settings: Settings


class Generations:
    """The generations of one context and all its views: one source, one role, one authorizer.

    Safe among threads, and after a fork. Relies on the source's promise that reading `x509_context` never blocks.
    """

    def __init__(
        self,
        source: X509ContextSource,
        role: Role,
        authorizer: Authorizer | None,
        limits: TLSLimits,
        *,
        certificate: WebCertificate | None = None,
        roots: WebRoots | None = None,
    ) -> None:
        self.role = role
        self.certificate = certificate
        self._roots = roots
        self._on_taken_up: weakref.WeakMethod[Callable[[], object]] | None = None
        self.limits = limits
        self._source = source
        self._authorizer = authorizer
        self._memory = _memory_of(source)
        self._lock = threading.Lock()
        self._bucket = TokenBucket(limits.rebuilds_per_second, limits.rebuilds_per_second * _BURST_SECONDS)
        self._log_bucket = TokenBucket(_LOG_LINES_PER_SECOND, _LOG_BURST)
        self._numbers = itertools.count(1)
        self._made: list[int] = []
        self._newest: tuple[X509Context, BundleSet[X509Bundle]] | None = None
        # What new connections are made from, if it is as new as it may be. None: ask `current`.
        self.built: Built | None = None
        self._built: Built | None = None
        self._alive: list[weakref.ref[Generation]] = []
        self._told: set[str] = set()
        self._complaint = ""
        self._users: weakref.WeakValueDictionary[int, _User] = weakref.WeakValueDictionary()
        _ALL.add(self)
        listen(self, source)

    def register(self, user: _User) -> None:
        """Whenever a snapshot arrives, build for the settings that `user` then has, too; as long as it lives."""
        self._users[id(user)] = user

    def after_each_update(self, call: Callable[[], object]) -> None:
        """Call a bound method whenever the source has published, after the update was taken up; kept weakly."""
        self._on_taken_up = weakref.WeakMethod(call)

    def look_at_certificate(self) -> None:
        """Make the next connection take up a web certificate whose files were replaced."""
        built = self.built
        if built is not None and self.certificate is not None and self.certificate.current() is not built.svid:
            self.built = None

    @property
    def observer(self) -> Observer | None:
        """The source's, which hears of these generations and of their connections."""
        return observer_of(self._source)

    def check_source(self) -> X509Context:
        """Return the newest snapshot.

        Raises:
            IdentityUnavailableError: the source is closed, or has none yet.
        """
        try:
            return self._source.x509_context
        except SpiffeError as error:
            raise IdentityUnavailableError(error) from error
        except Exception as error:  # a source of somebody's own
            failed = UnavailableError(f"the source of identities failed with {type(error).__name__}")
            raise IdentityUnavailableError(failed) from error

    def current(self, settings: Settings) -> Generation:
        """Return the generation for a connection that begins now, building it if nobody did yet.

        Raises:
            IdentityUnavailableError: there is nothing to build one of.
        """
        self.check_source()
        with self._lock:
            if self.built is None:
                self._take_up()
            built = self._built
            assert built is not None
            found = built.generations.get(settings)
            if found is None:
                found = self._add(built, settings)
        self._tell_made()
        return found

    def newest_bundles(self) -> BundleSet[X509Bundle]:
        """The bundles of the newest snapshot, whether or not a generation was built of it yet."""
        snapshot, known = self.check_source(), self._newest
        if known is None or known[0] is not snapshot:
            admitted = self._admitted()
            chosen = (bundle for td, bundle in snapshot.bundles.items() if admitted is None or td in admitted)
            self._newest = known = (snapshot, BundleSet.of(*chosen))
        return known[1]

    def set_aside(self) -> tuple[SetAside, ...]:
        """What of the newest snapshot is not trusted although a bundle has it, and why."""
        built = self._built
        return () if built is None else built.plan.set_aside

    def on_published(self, _context: X509Context) -> None:
        """Take up what the source published: runs in the publisher's thread, and never raises into it."""
        try:
            with self._lock:
                self._take_up()
        except IdentityUnavailableError as error:
            self.built = None  # the next handshake tries again
            logger.error("%s role=%s", error, self.role)  # noqa: TRY400 - the text says it all
        except Exception:
            self.built = None
            logger.exception("The newest identity was not taken up role=%s", self.role)
        call = None if self._on_taken_up is None else self._on_taken_up()
        if call is not None:
            try:
                call()
            except Exception:
                logger.exception("Live connections were not rechecked role=%s", self.role)
        self._tell_made()

    def renew_lock(self) -> None:
        """Get a free lock, in a forked child: the thread that held the old one exists in the parent only."""
        self._lock = threading.Lock()
        if self.certificate is not None:
            self.certificate.renew_lock()

    def alive(self) -> list[Generation]:
        """Every generation that is newest, or that a connection still uses; oldest first."""
        return [generation for ref in self._alive if (generation := ref()) is not None]

    # --- all below is called with the lock held ---------------------------------------------------------------------

    def _take_up(self) -> None:
        """Make the newest snapshot what new connections get, or say why not and keep what there is."""
        snapshot = self.check_source()
        last = self._built
        web = None if self.certificate is None else self.certificate.current()
        if last is not None and last.snapshot is snapshot and not last.degraded and (web is None or web is last.svid):
            self.built = last
            return
        svid = snapshot.svids[0] if snapshot.svids else None
        plan = self._plan(snapshot, svid)
        presented: Identity | None = svid if self.role.presents_svid else web
        if last is not None and presented == last.svid and plan == last.plan:
            self.built = self._built = Built(snapshot, last.svid, last.plan, last.generations)
            return
        if last is not None and not self._bucket.take(time.monotonic()):
            if self.built is not None and self._log_bucket.take(time.monotonic()):
                logger.warning(
                    "Updates come faster than rebuilds_per_second=%g; some are put off role=%s",
                    self.limits.rebuilds_per_second,
                    self.role,
                )
            self.built = None
            return
        self._tell(plan)
        self._built = self._build(snapshot, presented, plan, last)
        self.built = None if self._built.degraded else self._built
        self._end_oldest()

    def _plan(self, snapshot: X509Context, svid: X509SVID | None) -> TrustPlan:
        since = self._memory.seniority.observe(snapshot.bundles)
        if not self.role.verifies_chain:
            return TrustPlan(BundleSet.of(), ())
        return plan_trust(snapshot.bundles, own=svid, admitted=self._admitted(), since=since, limits=self.limits)

    def _build(self, snapshot: X509Context, svid: Identity | None, plan: TrustPlan, last: Built | None) -> Built:
        """Build for all settings in use. With an SVID that OpenSSL does not take: the last good one, the new trust."""
        settings = {user._settings for ref in self._users.valuerefs() if (user := ref()) is not None}
        problem: SpiffeError
        try:
            if svid is None and self.role.presents_svid:
                problem = NoIdentityError("the newest context holds no SVID: register an entry for this workload")
            else:
                built = self._build_with(snapshot, svid, plan, settings)
                self._complaint = ""
                return built
        except InvalidX509SVIDError as error:
            problem = error
        if last is None or last.svid is None:
            raise IdentityUnavailableError(problem)
        if self._complaint != (complaint := str(problem)):
            self._complaint = complaint
            expiry = last.svid.not_after.isoformat()
            logger.error("%s; the last good SVID is kept, expiry=%s role=%s", problem, expiry, self.role)
        if plan == last.plan:
            return Built(snapshot, last.svid, last.plan, last.generations, degraded=True)
        built = self._build_with(snapshot, last.svid, plan, settings)
        built.degraded = True
        return built

    def _build_with(
        self, snapshot: X509Context, svid: Identity | None, plan: TrustPlan, settings: set[Settings]
    ) -> Built:
        built = Built(snapshot, svid, plan)
        try:
            for each in settings:
                self._add(built, each)
        except ssl.SSLError as error:
            failing = unloadable(plan.authorities)
            if not failing:
                raise
            logger.error("OpenSSL does not take %d authorities, which are left out: %s", len(failing), error)  # noqa: TRY400
            kept = tuple(each for each in plan.authorities if each not in failing)
            return self._build_with(snapshot, svid, TrustPlan(plan.bundles, kept, plan.set_aside), settings)
        return built

    def _add(self, built: Built, settings: Settings) -> Generation:
        try:
            generation = Generation(
                next(self._numbers), built.svid, built.plan, settings, self.role, self._memory.inners, self._roots
            )
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                raise
            raise IdentityUnavailableError(InvalidX509SVIDError(f"no generation could be built: {error}")) from error
        generations = {**built.generations, settings: generation}
        if len(generations) > _SETTINGS_KEPT:
            del generations[next(iter(generations))]
        built.generations = generations
        self._alive = [ref for ref in self._alive if ref() is not None]
        self._alive.append(weakref.ref(generation))
        self._made.append(generation.number)
        return generation

    def _tell_made(self) -> None:
        """Tell the observer which generations were made, without the lock: it may make a connection itself."""
        made, self._made = self._made, []
        for number in made:
            tell(self.observer, GenerationMade(str(self.role), number))

    def _end_oldest(self) -> None:
        """End connections of the oldest generations, as far as too many are alive."""
        newest = set(map(id, self._built.generations.values())) if self._built is not None else set()
        older = [generation for generation in self.alive() if id(generation) not in newest]
        for generation in older[: max(0, len(older) + len(newest) - self.limits.live_generations)]:
            text = f"this connection outlived live_generations={self.limits.live_generations}; open a new one"
            ended = end_connections(generation, text)
            logger.warning(
                "More than live_generations=%d are alive; ended connections=%d of generation=%d role=%s",
                self.limits.live_generations,
                ended,
                generation.number,
                self.role,
            )

    def _tell(self, plan: TrustPlan) -> None:
        """Log what is wrong with a plan, each thing once as long as it lasts."""
        now = [str(each) for each in plan.set_aside] + list(plan.warnings)
        told = self._told & set(now)
        for text in now:
            if text not in told and self._log_bucket.take(time.monotonic()):
                told.add(text)
                logger.warning("Not trusted as published: %s", text)
        self._told = told

    def _admitted(self) -> frozenset[TrustDomain] | None:
        if self._authorizer is None:
            return None
        try:
            domains = self._authorizer.trust_domains()
            return None if domains is None else frozenset(domains)
        except Exception as error:
            raise InvalidAuthorizerError(
                f"trust_domains() of the authorizer failed with {type(error).__name__}: mend it"
            ) from error


# --- what all contexts of a source share -----------------------------------------------------------------------------


class _Memory:
    """Since when a source's authorities are known, and the inner contexts made of its identities."""

    def __init__(self) -> None:
        self.seniority = Seniority()
        self.inners = InnerContexts()


_MEMORIES: weakref.WeakKeyDictionary[X509ContextSource, _Memory] = weakref.WeakKeyDictionary()
_ALL: weakref.WeakSet[Generations] = weakref.WeakSet()


def _memory_of(source: X509ContextSource) -> _Memory:
    try:
        return _MEMORIES.setdefault(source, _Memory())
    except TypeError:  # a source without weak references or hash: then each context remembers for itself
        return _Memory()


def all_generations() -> list[Generations]:
    """Everything of this kind in the process. For a forked child, where no other thread changes it meanwhile."""
    return list(_ALL)
