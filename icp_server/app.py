"""The composition root: makes one server of its configuration, starts its parts in order and stops them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.http_health import HealthListener, HealthState
from authsec_sdk.rpc import Peer, Server, ServerLimits
from authsec_sdk.tls import mtls_server_context, tls_server_context
from icp_common.folders import make_private_folder
from icp_common.telemetry import Telemetry
from icp_server.audit.trail import AuditTrail
from icp_server.ca.composer import Composers
from icp_server.ca.keys import KeyManager
from icp_server.ca.keys_registry import open_key_manager
from icp_server.ca.kinds import CASettings, SlotKind, slot_kinds
from icp_server.ca.lifecycle import TICK, CALifecycle
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.server_identity import ServerIdentity
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.ca.upstream import POLL, UpstreamAuthority
from icp_server.ca.upstream_follower import UpstreamFollower
from icp_server.ca.upstream_kind import upstream_kinds
from icp_server.ca.upstream_registry import open_upstream
from icp_server.config.model import ServerConfig
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.federation.certificate import ServingCertificate
from icp_server.federation.listener import BundleListener
from icp_server.federation.refresher import FederationRefresher
from icp_server.grpc_api.agent import AgentAPI
from icp_server.grpc_api.bundle import BundleAPI
from icp_server.grpc_api.caller import TCPConnection
from icp_server.grpc_api.debug import DebugAPI
from icp_server.grpc_api.entry import EntryAPI
from icp_server.grpc_api.gate import Gate
from icp_server.grpc_api.health import HealthAPI, bundle_problem
from icp_server.grpc_api.interceptor import Interceptor
from icp_server.grpc_api.limits import RateLimits
from icp_server.grpc_api.local_authority import LocalAuthorityAPI
from icp_server.grpc_api.local_peer import LocalPeer, check_admitted
from icp_server.grpc_api.logger import LoggerAPI
from icp_server.grpc_api.reflection import ReflectionV1, ReflectionV1Alpha, Schema
from icp_server.grpc_api.svid import SVIDAPI
from icp_server.grpc_api.trust_domain import TrustDomainAPI
from icp_server.nodeattestors.registry import node_attestors
from icp_server.ports import Clock
from icp_server.services.agents import AgentService
from icp_server.services.bundles import BundleService
from icp_server.services.entries import EntryService
from icp_server.services.follower import Follower
from icp_server.services.housekeeping import EVERY, Housekeeping
from icp_server.services.local_authority import LocalAuthorityService
from icp_server.services.log_levels import LogLevelService
from icp_server.services.server_info import ServerInfoService
from icp_server.services.svids import SVIDService
from icp_server.services.tokens import TokenProfiles, TokenService
from icp_server.services.trust_domains import TrustDomainService
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.telemetry import ServerCounters

logger = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that calls under way have when the server stops."""
CONNECTION_AGE = timedelta(minutes=3).total_seconds()
"""Agents reconnect after this long, so that no connection outlives by much what its handshake checked."""
SOCKET_MODE = 0o770
SOCKET_FOLDER_MODE = 0o750


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Services:
    """The use cases, as both listeners serve them."""

    agents: AgentService
    bundles: BundleService
    entries: EntryService
    svids: SVIDService
    tokens: TokenService
    authorities: LocalAuthorityService
    trust_domains: TrustDomainService


@dataclass(frozen=True, slots=True)
class _Signers:
    """What signs, once the rotator has activated its authorities."""

    x509: SVIDSigner
    tokens: SVIDTokenSigner


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the server looks after itself."""

    rotation: timedelta = TICK
    housekeeping: timedelta = EVERY
    upstream: timedelta = POLL


class ICPServer:
    """One server. `async with` starts it (what fails is cleaned up) and stops it; `run` keeps it going in between."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock = utc_now,
        telemetry: Telemetry | None = None,
        pace: Pace = Pace(),
    ) -> None:
        self._config = config
        self._clock = clock
        self._pace = pace
        self._counters = ServerCounters(telemetry or Telemetry())
        self._parts = contextlib.AsyncExitStack()
        self._lifecycle: CALifecycle
        self._housekeeping: Housekeeping
        self._follower: Follower | None = None
        self._upstream: UpstreamAuthority | None = None
        self._upstream_follower: UpstreamFollower | None = None
        self._refresher: FederationRefresher
        self._certificate: ServingCertificate | None = None
        self.tcp_address: tuple[str, int] = ("", 0)
        """Where agents are served, once it is."""
        self.health_address: tuple[str, int] = ("", 0)
        """Where probes are answered, once they are."""
        self.bundle_address: tuple[str, int] = ("", 0)
        """Where other trust domains get our bundle, once they do."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._parts.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._parts.aclose()
        logger.info("Server stopped")

    async def run(self) -> None:
        """Rotate, renew and prune for ever; cancel it to end it.

        Raises:
            BaseExceptionGroup: a part failed in a way it has no answer to; the server cannot go on.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lifecycle.run(), name="CA lifecycle")
            tasks.create_task(self._housekeeping.run(), name="housekeeping")
            tasks.create_task(self._refresher.run(), name="federation")
            if self._certificate is not None:
                tasks.create_task(self._certificate.run(), name="certificate of the bundle endpoint")
            if self._upstream_follower is not None:
                tasks.create_task(self._upstream_follower.run(), name="following the upstream authority")
            if self._follower is not None:
                tasks.create_task(self._follower.run(), name="following other servers")

    async def _start(self) -> None:
        config = self._config
        logger.info(
            "Configured trust_domain=%s data_dir=%s admin_ids=[%s]",
            config.trust_domain,
            config.data_dir,
            " ".join(sorted(map(str, config.admin_ids))),
        )
        for warning in config.warnings:
            logger.warning("%s", warning)
        make_private_folder(config.data_dir)
        store = await self._open_store()
        signers = self._signers()
        identity = await self._start_authority(store, signers)
        services = self._services(store, signers)
        wakes = store.wakes()
        if wakes is not None:
            self._follower = Follower(store, services.entries, wakes, self._clock, on_bundles=identity.refresh)
        interceptor = Interceptor(
            Gate(services.agents, services.entries, config.admin_ids),
            AuditTrail(enabled=config.audit_log_enabled),
            self._counters,
        )
        info = ServerInfoService(store, lambda: identity.holder.x509_context.svid, self._clock)
        await self._serve_locally(services, interceptor, info)
        await self._serve_agents(services, interceptor, identity)
        await self._serve_bundle(services.bundles, identity)
        await self._serve_health(services.bundles)

    async def _open_store(self) -> SQLStore:
        database = await self._parts.enter_async_context(await _open_database(self._config))
        store = await SQLStore.bind(database, self._config.trust_domain, self._clock)
        self._housekeeping = Housekeeping(store, self._clock, every=self._pace.housekeeping)
        return store

    def _signers(self) -> _Signers:
        config, lifetimes = self._config, self._config.lifetimes
        composers = Composers(config.plugins.composers)
        x509 = SVIDSigner(config.trust_domain, Lifetimes(lifetimes.x509_svid, lifetimes.agent), self._clock, composers)
        settings = TokenSettings(
            jwt_svid_ttl=lifetimes.jwt_svid, jwt_issuer=config.tokens.jwt_issuer, wit_issuer=config.tokens.wit_issuer
        )
        return _Signers(x509, SVIDTokenSigner(config.trust_domain, settings, self._clock, composers))

    async def _start_authority(self, store: SQLStore, signers: _Signers) -> ServerIdentity:
        config = self._config
        settings = CASettings(
            config.lifetimes.ca,
            config.ca_key_type,
            config.ca_subject,
            jwt_key_type=config.tokens.jwt_key_type,
            wit_key_type=config.tokens.wit_key_type,
            jwt=config.tokens.jwt,
            wit=config.tokens.wit,
        )
        kinds = await self._kinds(store, signers, settings)
        keys = await self._open_keys()
        rotator = AuthorityRotator(store, keys, kinds, self._clock)
        identity = ServerIdentity(store, signers.x509, self._clock)
        self._lifecycle = CALifecycle(rotator, identity, self._clock, tick=self._pace.rotation)
        await self._lifecycle.start()
        if self._upstream is not None:
            self._upstream_follower = UpstreamFollower(
                store, self._upstream, self._lifecycle, every=self._pace.upstream
            )
        return identity

    async def _kinds(self, store: SQLStore, signers: _Signers, settings: CASettings) -> tuple[SlotKind[Any], ...]:
        chosen = self._config.plugins.upstream
        if chosen is None:
            return slot_kinds(store, signers.x509, signers.tokens, settings)
        opening = open_upstream(chosen, self._config.trust_domain, self._clock)
        self._upstream = await self._parts.enter_async_context(opening)
        return upstream_kinds(store, signers.x509, signers.tokens, settings, self._upstream)

    async def _open_keys(self) -> KeyManager:
        opening = open_key_manager(self._config.plugins.key_manager)
        keys = await asyncio.to_thread(opening.__enter__)
        self._parts.push_async_callback(asyncio.to_thread, opening.__exit__, None, None, None)
        return keys

    def _services(self, store: SQLStore, signers: _Signers) -> _Services:
        config = self._config
        entries = EntryService(
            store,
            self._clock,
            admin_ids=config.admin_ids,
            require_strong_selectors=config.require_strong_selectors,
        )
        agents = AgentService(
            store,
            signers.x509,
            node_attestors(config.plugins.node_attestors, store, self._clock),
            self._clock,
            agent_spiffe_id_as_selector=config.agent_spiffe_id_as_selector,
        )
        profiles = TokenProfiles(jwt=config.tokens.jwt, wit=config.tokens.wit)
        self._refresher = FederationRefresher(store, config.federation.federates_with)
        return _Services(
            agents,
            BundleService(
                store,
                profiles,
                own_changed=self._lifecycle.bundle_changed,
                publish_upstream=self._upstream.publish if self._upstream is not None else None,
            ),
            entries,
            SVIDService(store, signers.x509, entries),
            TokenService(signers.tokens, entries, profiles),
            LocalAuthorityService(store, self._lifecycle, profiles, has_upstream=self._upstream is not None),
            TrustDomainService(store, self._refresher),
        )

    def _handlers(self, services: _Services, limits: RateLimits) -> list[object]:
        trust_domain = self._config.trust_domain
        return [
            AgentAPI(services.agents, trust_domain, limits, self._counters),
            BundleAPI(services.bundles, limits),
            EntryAPI(services.entries, trust_domain),
            SVIDAPI(services.svids, services.tokens, trust_domain, limits, self._counters),
            LocalAuthorityAPI(services.authorities),
            TrustDomainAPI(services.trust_domains),
        ]

    async def _serve_locally(self, services: _Services, interceptor: Interceptor, info: ServerInfoService) -> None:
        """Serve operators on the Unix socket. Limits count by address, and who is local has none."""
        path = self._config.listeners.socket_path.absolute()
        make_private_folder(path.parent, SOCKET_FOLDER_MODE)
        limits = RateLimits.configured(attestation=True, signing=True)
        handlers: list[Any] = [
            *self._handlers(services, limits),
            HealthAPI(services.bundles),
            LoggerAPI(LogLevelService(self._config.log.level)),
            DebugAPI(info),
        ]
        schema = Schema(handlers)
        server = Server(
            [*handlers, ReflectionV1(schema), ReflectionV1Alpha(schema)],
            limits=ServerLimits.local(),
            interceptor=interceptor,
            on_accept=_AdmitOperators(path),
        )
        self._parts.push_async_callback(_stop, server, "unix")
        await server.listen_unix(path, mode=SOCKET_MODE)
        logger.info("Starting Server APIs address=%s network=unix", path)

    async def _serve_agents(self, services: _Services, interceptor: Interceptor, identity: ServerIdentity) -> None:
        """Serve agents and remote administrators over TLS; a caller may come without a certificate, to attest."""
        config = self._config
        switches = config.rate_limits
        limits = RateLimits.configured(attestation=switches.attestation, signing=switches.signing)
        context = mtls_server_context(
            identity.holder,
            authorize_member_of(config.trust_domain),
            client_certificate="request",
            minimum_version=ssl.TLSVersion.TLSv1_2,
            alpn=("h2",),
        )
        server = Server(
            self._handlers(services, limits),
            limits=ServerLimits(max_connection_age=CONNECTION_AGE),
            interceptor=interceptor,
            on_accept=TCPConnection.of,
        )
        self._parts.push_async_callback(_stop, server, "tcp")
        self.tcp_address = await server.listen_tcp(config.listeners.address, config.listeners.port, ssl=context)
        logger.info("Starting Server APIs address=%s:%s network=tcp", *self.tcp_address)

    async def _serve_bundle(self, bundles: BundleService, identity: ServerIdentity) -> None:
        """Serve our bundle to other trust domains, over HTTPS, if that is configured."""
        config = self._config.federation.served
        if config is None:
            return
        if config.files is None:
            spiffe = tls_server_context(identity.holder, alpn=("http/1.1",))
            listener = BundleListener(bundles.get, lambda: spiffe, refresh_hint=config.refresh_hint)
        else:
            files = ServingCertificate(config.files.certificate, config.files.key, every=config.files.sync_every)
            files.load()
            self._certificate = files
            listener = BundleListener(bundles.get, files.context, refresh_hint=config.refresh_hint)
        self.bundle_address = await listener.listen(config.address, config.port)
        self._parts.push_async_callback(listener.close)
        logger.info(
            "Serving bundle endpoint address=%s:%s profile=%s",
            *self.bundle_address,
            "https_spiffe" if config.files is None else "https_web",
        )

    async def _serve_health(self, bundles: BundleService) -> None:
        config = self._config.health
        if config is None:
            return

        async def probe() -> HealthState:
            problem = await bundle_problem(bundles)
            return HealthState(not problem, {"server": {"get_bundle_err": problem} if problem else {}})

        listener = HealthListener({config.live_path: probe, config.ready_path: probe})
        self.health_address = await listener.listen(config.bind_address, config.bind_port)
        self._parts.push_async_callback(listener.close)
        logger.info("Serving health checks address=%s:%s", *self.health_address)


async def _open_database(config: ServerConfig) -> Database:
    place = config.plugins.data_store
    if isinstance(place, PostgresSettings):
        logger.info("Connecting to the database %s", place)
        return await Database.connect(place)
    make_private_folder(place.path.parent)
    return await Database.open(place.path, migrate=place.migrate)


class _AdmitOperators:
    """Runs when somebody connects to the admin socket: who it is, and whether the socket is for them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, peer: Peer) -> LocalPeer:
        process = LocalPeer.of(peer.socket)
        status = self._path.stat()
        check_admitted(process, owner=status.st_uid, group=status.st_gid)
        return process


async def _stop(server: Server, network: str) -> None:
    logger.info("Stopping Server APIs network=%s", network)
    await server.drain(GRACE)
    logger.info("Server APIs have stopped network=%s", network)
