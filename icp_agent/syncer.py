"""Keeps the identities as the server says: looks every few seconds, has signed what needs it, waits out trouble."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Never, TypeVar

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import BundleSet, TrustBundle, TrustDomain
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.svids import IssuedX509SVID
from authsec_sdk.spire.tainted import PublishedBundle
from icp_agent.domain.agent_state import Event
from icp_agent.domain.authority_keys import authority_key_id, key_ids_of
from icp_agent.domain.identity_cache import SignedSVID
from icp_agent.domain.sync_plan import next_batch_size, next_pause, sync_plan
from icp_agent.identities import Identities, StatusBoard
from icp_agent.keys import KeyType, PrivateKey, generate_key, signing_request, svid_of
from icp_agent.ports import (
    DeniedByServerError,
    MalformedAnswerError,
    RefusedByServerError,
    ServerAPI,
    ServerUnavailableError,
    SigningRefusal,
    SigningRequest,
    UnsupportedByServerError,
)

logger = logging.getLogger(__name__)

MAXIMUM_BATCH = 500
"""A SPIRE server's rate limiter refuses larger ones outright."""

_FEDERATED_AT_ONCE = 10
_random = random.SystemRandom()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What an operator may choose."""

    interval: timedelta = timedelta(seconds=5)
    svid_limit: int = 1000
    availability_target: timedelta = timedelta()
    key_type: KeyType = KeyType.EC_P256


class Syncer:
    """Owns the cache of `Identities`: nobody else writes it while `run` runs.

    `on_bundle` is told the own trust domain's bundle whenever it changed, before workloads are.
    """

    def __init__(
        self,
        server: ServerAPI,
        identities: Identities,
        board: StatusBoard,
        trust_domain: TrustDomain,
        settings: SyncSettings,
        on_bundle: Callable[[PublishedBundle], Awaitable[None]],
    ) -> None:
        self._server = server
        self._identities = identities
        self._board = board
        self._trust_domain = trust_domain
        self._settings = settings
        self._on_bundle = on_bundle
        self._published: PublishedBundle | None = None
        self._batch_size = MAXIMUM_BATCH
        self._told_unsupported = False

    async def run(self) -> Never:
        """Sync for ever, less often while the server is away, and sign in between what workloads wait for.

        Raises:
            DeniedByServerError: the agent is banned, evicted or has to attest again.
        """
        failures = 0
        while True:
            succeeded = await self._attempt(self.sync)
            failures = 0 if succeeded else failures + 1
            await self._pause(next_pause(self._settings.interval, failures, _random.uniform(-1, 1)))

    async def sync(self) -> None:
        """One look at the server: entries, bundles, then the SVIDs that are missing or old.

        Raises:
            DeniedByServerError, RefusedByServerError, ServerUnavailableError: as `ServerAPI`; the cache keeps what
                it had, and what was signed before the failure.
        """
        await self._refresh()
        await self._sign_planned()
        self._board.happened(Event.SYNCED)

    async def _attempt(self, act: Callable[[], Awaitable[None]]) -> bool:
        try:
            await act()
        except DeniedByServerError:
            raise
        except (RefusedByServerError, ServerUnavailableError) as error:
            logger.error("Synchronize failed error=%r", str(error))  # noqa: TRY400 - expected, the text says it all
            self._board.happened(Event.FAILED, problem=str(error))
            self._stop_waiting()
            return False
        return True

    async def _pause(self, pause: timedelta) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + pause.total_seconds()
        while (left := deadline - loop.time()) > 0:
            if await self._identities.until_demanded(left):
                await self._attempt(self._sign_planned)

    # --- entries and bundles ---------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        cache = self._identities.cache
        entries = await _named("failed to fetch authorized entries", self._server.authorized_entries(cache.entries))
        published = await _named("failed to fetch the trust bundle", self._server.bundle())
        bundle = published.bundle
        if bundle.trust_domain != self._trust_domain:
            raise MalformedAnswerError(f"the server sent the bundle of {bundle.trust_domain}, not {self._trust_domain}")
        if not bundle.x509_authorities:
            # Believed, it would shut out every server for good, over restarts too, and break every workload's trust.
            raise MalformedAnswerError("the server sent a trust bundle without any X.509 authority")
        wanted = frozenset(domain for entry in entries for domain in entry.federates_with) - {self._trust_domain}
        federated = await self._federated(wanted)
        if published != self._published:
            await self._on_bundle(published)
            self._published = published
        if not cache.synced or {entry.id: entry for entry in entries} != dict(cache.entries):
            _log_changes(dict(cache.entries), entries)
            cache = cache.with_entries(entries)
        # One without authorities vouches for nobody, and workloads' clients choke on an empty bundle.
        x509 = BundleSet(each.x509_bundle() for each in federated if each.x509_authorities)
        if cache.bundle != bundle.x509_bundle() or cache.federated != x509:
            cache = cache.with_bundles(bundle.x509_bundle(), x509)
        jwt = BundleSet(each.jwt_bundle() for each in federated)
        if cache.jwt_bundle != bundle.jwt_bundle() or cache.jwt_federated != jwt:
            cache = cache.with_jwt_bundles(bundle.jwt_bundle(), jwt)
        tainted = key_ids_of(published.tainted.x509_authorities)
        if cache.tainted != tainted:
            cache = cache.with_tainted(tainted)
        self._identities.replace(cache)

    async def _federated(self, wanted: frozenset[TrustDomain]) -> list[TrustBundle]:
        turn = asyncio.Semaphore(_FEDERATED_AT_ONCE)

        async def fetch(domain: TrustDomain) -> TrustBundle | None:
            async with turn:
                try:
                    bundle = await self._server.federated_bundle(domain)
                except MalformedAnswerError as error:
                    logger.warning(
                        "Bundle is malformed, the last good one stays trust_domain=%s error=%s", domain, error
                    )
                    return self._last_good(domain)
                except UnsupportedByServerError:
                    self._tell_unsupported()
                    return None
            return bundle

        try:
            async with asyncio.TaskGroup() as tasks:
                fetches = [tasks.create_task(fetch(domain)) for domain in sorted(wanted, key=str)]
        except ExceptionGroup as errors:
            raise _first(errors) from errors
        return [bundle for task in fetches if (bundle := task.result()) is not None]

    def _last_good(self, domain: TrustDomain) -> TrustBundle | None:
        cache = self._identities.cache
        x509, jwt = cache.federated.get(domain), cache.jwt_federated.get(domain)
        if x509 is None and jwt is None:
            return None
        return TrustBundle(domain, x509.authorities if x509 else (), jwt.authorities if jwt else {})

    def _tell_unsupported(self) -> None:
        if not self._told_unsupported:
            logger.warning("The server does not offer federated bundles: workloads get only their own")
            self._told_unsupported = True

    # --- SVIDs -----------------------------------------------------------------------------------------------------

    async def _sign_planned(self) -> None:
        now = self._identities.clock()
        plan = sync_plan(
            self._identities.cache,
            now,
            use=self._identities.use(),
            limit=self._settings.svid_limit,
            availability_target=self._settings.availability_target,
            jitter=lambda: _random.uniform(-1, 1),
        )
        self._identities.replace(self._identities.cache.without_svids(plan.drop))
        if plan.to_sign:
            logger.debug("Renewing stale entries count=%d limit=%d", len(plan.to_sign), self._batch_size)
        waiting = list(plan.to_sign)
        while waiting:
            batch = waiting[: self._batch_size]
            try:
                await self._sign(batch)
            except RefusedByServerError:
                # Too many or too large for this server: ask again at once for half as many, unless it was one alone.
                if len(batch) == 1:
                    raise
                self._batch_size = next_batch_size(len(batch), failed=True)
                continue
            except ServerUnavailableError:
                self._batch_size = next_batch_size(len(batch), failed=True)
                raise
            self._batch_size = next_batch_size(self._batch_size, failed=False, maximum=MAXIMUM_BATCH)
            del waiting[: len(batch)]

    async def _sign(self, batch: Sequence[AuthorizedEntry]) -> None:
        # Keys and signatures are made in a thread: 500 of them would hold up every workload for a tenth of a second.
        keys, requests = await asyncio.to_thread(_requests, batch, self._settings.key_type)
        answers = await _named("failed to sign X509-SVIDs", self._server.sign(requests))
        if len(answers) != len(batch):
            raise MalformedAnswerError(f"the server answered {len(answers)} of {len(batch)} signing requests")
        signed, problems = await asyncio.to_thread(_join, batch, keys, answers, self._identities.clock())
        for entry, problem in problems:
            logger.error(
                "Failed to sign X509-SVID entry_id=%s spiffe_id=%s error=%r", entry.id, entry.spiffe_id, problem
            )
        cache = self._identities.cache.with_svids(signed, failed=[entry.id for entry, _ in problems])
        self._identities.replace(cache)
        logger.debug("SVIDs updated count=%d", len(signed))

    def _stop_waiting(self) -> None:
        """Nobody need wait for what could not be signed now: the next look tries again."""
        cache, now = self._identities.cache, self._identities.clock()
        missing = [entry.id for entry in cache.entries.values() if cache.usable_svid(entry, now) is None]
        if not cache.failed.issuperset(missing):
            self._identities.replace(cache.with_svids({}, failed=missing))


def _requests(batch: Sequence[AuthorizedEntry], key_type: KeyType) -> tuple[list[PrivateKey], list[SigningRequest]]:
    keys = [generate_key(key_type) for _ in batch]
    requests = [
        SigningRequest(entry.id, signing_request(key, entry.spiffe_id)) for entry, key in zip(batch, keys, strict=True)
    ]
    return keys, requests


def _join(
    batch: Sequence[AuthorizedEntry],
    keys: Sequence[PrivateKey],
    answers: Sequence[IssuedX509SVID | SigningRefusal],
    now: datetime,
) -> tuple[dict[str, SignedSVID], list[tuple[AuthorizedEntry, str]]]:
    signed: dict[str, SignedSVID] = {}
    problems: list[tuple[AuthorizedEntry, str]] = []
    for entry, key, answer in zip(batch, keys, answers, strict=True):
        if isinstance(answer, SigningRefusal):
            problems.append((entry, answer.message))
            continue
        try:
            svid = svid_of(answer, key, wanted=entry.spiffe_id, hint=entry.hint)
        except SpiffeError as error:
            problems.append((entry, str(error)))
            continue
        if svid.is_expired(now):
            # Kept as signed it would count as missing, and be asked for again at once, for ever.
            problems.append((entry, f"the SVID expired at {svid.not_after} already: compare the clocks"))
            continue
        signed[entry.id] = SignedSVID(svid, entry.revision, authority_key_id(svid))
    return signed, problems


async def _named(what: str, call: Awaitable[T]) -> T:
    """Say in the error which of the calls it was."""
    try:
        return await call
    except DeniedByServerError:
        raise
    except RefusedByServerError as error:
        raise type(error)(f"{what}: {error}", error.status) from error
    except ServerUnavailableError as error:
        raise type(error)(f"{what}: {error}") from error


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """A denial if there is one, else any of the errors: one tells what the sync died of."""
    return next((error for error in errors.exceptions if isinstance(error, DeniedByServerError)), errors.exceptions[0])


def _log_changes(before: dict[str, AuthorizedEntry], after: Sequence[AuthorizedEntry]) -> None:
    known = {entry.id for entry in after}
    for entry in after:
        if entry.id not in before:
            logger.debug("Entry created entry=%s spiffe_id=%s", entry.id, entry.spiffe_id)
        elif before[entry.id] != entry:
            logger.debug("Entry updated entry=%s spiffe_id=%s", entry.id, entry.spiffe_id)
    for id_ in before.keys() - known:
        logger.debug("Entry removed entry=%s spiffe_id=%s", id_, before[id_].spiffe_id)
