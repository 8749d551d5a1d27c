"""Puts the agent together and runs it: attest, serve, sync, renew; and start over when the server says so."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Never

from authsec_sdk.errors import ConfigurationError, SpiffeError
from authsec_sdk.http_health import HealthListener, HealthState
from authsec_sdk.rpc import Server
from authsec_sdk.spire.tainted import PublishedBundle
from icp_agent.api.callers import REATTEST_SECONDS
from icp_agent.api.health import Health
from icp_agent.api.jwt_profile import JWTProfile
from icp_agent.api.sds import SecretDiscovery
from icp_agent.api.sockets import open_admin_socket, open_public_socket
from icp_agent.api.workload import WorkloadAPI
from icp_agent.config.settings import AgentConfig, HealthListenerSettings
from icp_agent.domain.agent_state import Event
from icp_agent.domain.authority_keys import key_ids_of
from icp_agent.failover import Failover
from icp_agent.files import read_bounded
from icp_agent.identities import Identities, StatusBoard
from icp_agent.jwt_svids import JWTSVIDs
from icp_agent.node_attestation import NodeAttestation
from icp_agent.node_svid import NodeSVID
from icp_agent.ports import DeniedByServerError, NodeParts, WorkloadAttestor
from icp_agent.server_client import BootstrapClient, ServerAddress, ServerClient
from icp_agent.storage import AgentStorage
from icp_agent.syncer import Syncer
from icp_agent.trust_watch import TrustLostError, TrustWatch
from icp_common.service import Service
from icp_common.telemetry import Telemetry

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 3.0
_MAXIMUM_TOKEN_BYTES: Final = 4096


class Agent:
    """One agent. `run` returns when `service` is told to stop, and for nothing a server does or fails to do."""

    def __init__(
        self,
        config: AgentConfig,
        version: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        attestors: Sequence[WorkloadAttestor] | None = None,
        reattest_seconds: float = REATTEST_SECONDS,
    ) -> None:
        self._reattest_seconds = reattest_seconds
        self._config = config
        self._version = version
        self.identities = Identities(clock)
        self.board = StatusBoard(self.identities)
        self.jwt_svids = JWTSVIDs(clock, config.jwt)
        self.telemetry = Telemetry()
        self._attestors: Sequence[WorkloadAttestor] = (
            [make(self.telemetry) for make in config.workload_attestors] if attestors is None else attestors
        )
        self._storage = AgentStorage(config.data_dir, config.keys_directory, config.trust_domain)
        self._node = NodeSVID(
            self._storage, config.trust_domain, clock, availability_target=config.sync.availability_target
        )
        self._address = ServerAddress(config.server_address, config.server_port, config.trust_domain)
        self._watch = TrustWatch(config.rebootstrap, clock)
        self._attestation = NodeAttestation(
            config.node_attestor(NodeParts(config.trust_domain, self._join_token)),
            config.trust,
            config.trust_domain,
            lambda trusted: BootstrapClient.connect(self._address, trusted),
            self._node,
            self._storage,
            self.board,
            self._watch,
        )

    async def run(self, service: Service) -> int:
        """Serve until told to stop; the exit code.

        Raises:
            SpiffeError, OSError: the agent cannot begin: a folder is not safe, a socket is taken, its state is broken.
        """
        logger.info("Starting agent data_dir=%s version=%s", self._config.data_dir, self._version)
        for warning in self._config.warnings:
            logger.warning("%s", warning)
        attested = await self._node.load()
        async with self._serving():
            life = asyncio.create_task(self._live(attested=attested), name="agent life")
            stopped = asyncio.create_task(service.stopped(), name="agent stop")
            try:
                service.ready()
                await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.board.happened(Event.STOPPED)
                for task in (life, stopped):
                    task.cancel()
                await asyncio.wait({life, stopped})
        if not life.cancelled():
            life.result()  # a defect: let it be seen
        logger.info("Agent stopped")
        return 0

    async def _live(self, *, attested: bool) -> Never:
        """Attested or about to be, for ever: a denial ends one life and begins the next."""
        if attested:
            self._take_up()
        evicted = False
        while True:
            if self._node.svid is None:
                await self._attestation.until_attested(self._withdraw if evicted else lambda: None)
            denial = await self._work()
            evicted = denial.reason.event is Event.FORGOTTEN and self._node.reattestable
            strangers = isinstance(denial, TrustLostError)
            await self._begin_anew(Event.EXPIRED if evicted or strangers else denial.reason.event, denial)
            if strangers:
                await self._node.forget_bundle()

    def _withdraw(self) -> None:
        """The server has forgotten this agent, and refuses to have it back."""
        self.board.happened(Event.FORGOTTEN, problem=self.board.status.problem)
        self._clear()

    def _clear(self) -> None:
        self.identities.clear()
        self.jwt_svids.clear()

    def _take_up(self) -> None:
        svid = self._node.svid
        assert svid is not None
        logger.info("Agent SVID found on disk agent_id=%s expires=%s", svid.id, svid.not_after)
        self.board.note(self.board.status.known_as(svid.id))
        self.board.happened(Event.ATTESTED)

    async def _work(self) -> DeniedByServerError:
        """Sync and renew until the server denies this agent."""
        client = ServerClient(self._address, self._node.holder, paged=self._config.paged_sync, outcome=self._outcome)
        server = Failover(client, len(self._address.places))
        syncer = Syncer(
            server,
            self.identities,
            self.board,
            self._config.trust_domain,
            self._config.sync,
            self._take_bundle,
        )
        try:
            with self.jwt_svids.served_by(server):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._post_status(client), name="agent status")
                    tasks.create_task(self._keep_fresh(client), name="agent renewal")
                    tasks.create_task(syncer.run(), name="agent sync")
        except* DeniedByServerError as errors:
            denial = errors.exceptions[0]
        finally:
            await client.close()
        assert isinstance(denial, DeniedByServerError)
        return denial

    async def _take_bundle(self, published: PublishedBundle) -> None:
        self.jwt_svids.take_bundle(published)
        self._node.taint(key_ids_of(published.tainted.x509_authorities))
        await self._node.take_bundle(published.bundle)

    def _outcome(self, error: Exception | None) -> None:
        if error is None:
            self._watch.went_well()
        else:
            self._watch.failed(error, reattestable=self._node.reattestable)

    async def _keep_fresh(self, client: ServerClient) -> Never:
        async def attest_again() -> None:
            with client.replacing_svid():
                await self._attestation.again()
                await client.reconnect()

        await self._node.keep_fresh(client, attest_again, client.reconnect)

    async def _post_status(self, client: ServerClient) -> None:
        try:
            await client.post_status(self._version)
        except DeniedByServerError:
            raise
        except SpiffeError as error:
            logger.warning("Unable to post the agent's status error=%r", str(error))

    async def _begin_anew(self, event: Event, denial: DeniedByServerError) -> None:
        if event is Event.BANNED:
            logger.error("Agent is banned: removing SVID and shutting down all workload streams error=%s", denial)
        elif event is Event.FORGOTTEN:
            logger.error("Agent is not attested any more: removing SVID and workload streams error=%s", denial)
        else:
            logger.error("Agent SVID can no longer be used: attesting again error=%s", denial)
        self.board.happened(event, problem=str(denial))
        if event is not Event.EXPIRED:
            # Not ours to hand out any more. An agent that expired, or that was evicted and may attest at will, keeps
            # what it has: it may yet be welcome.
            self._clear()
        await self._node.forget()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        config = self._config
        health = Health(self.identities, self.board)
        async with AsyncExitStack() as stack:
            if config.socket_path is not None:
                await self._drained(stack, await open_public_socket(config.socket_path, self._apis(), health))
            if config.admin_socket_path is not None:
                await self._drained(stack, await open_admin_socket(config.admin_socket_path, health))
            if config.health is not None:
                await self._probed(stack, config.health)
            yield

    def _apis(self) -> dict[str, WorkloadAPI | SecretDiscovery]:
        """What workloads can call, by the names the log has."""
        config = self._config
        apis: dict[str, WorkloadAPI | SecretDiscovery] = {}
        if config.workload_api:
            apis["Workload API"] = WorkloadAPI(
                self.identities,
                self.board,
                self._attestors,
                jwt=JWTProfile(self.jwt_svids, config.trust_domain, config.allowed_foreign_jwt_claims),
                allow_unauthenticated_verifiers=config.allow_unauthenticated_verifiers,
                loggable_selectors=config.log_selectors,
                reattest_seconds=self._reattest_seconds,
            )
        if config.sds is not None:
            apis["Secret Discovery Service (v3)"] = SecretDiscovery(
                self.identities,
                self.board,
                self._attestors,
                config.sds,
                loggable_selectors=config.log_selectors,
                reattest_seconds=self._reattest_seconds,
            )
        return apis

    async def _drained(self, stack: AsyncExitStack, server: Server) -> None:
        # Streams end by themselves, with UNAVAILABLE, when the status says that the agent stops.
        stack.push_async_callback(server.drain, DRAIN_SECONDS)

    async def _probed(self, stack: AsyncExitStack, settings: HealthListenerSettings) -> None:
        async def live() -> HealthState:
            return HealthState(healthy=True)

        async def ready() -> HealthState:
            return HealthState(self.board.status.healthy, {"state": self.board.status.phase.value})

        listener = HealthListener({settings.live_path: live, settings.ready_path: ready})
        await listener.listen(settings.host, settings.port)
        stack.push_async_callback(listener.close)

    def _join_token(self) -> str:
        if self._config.join_token_file is not None:
            return read_join_token(self._config.join_token_file)
        return self._config.join_token


def read_join_token(path: Path) -> str:
    """The token in a file, without the white space around it; empty if there is no such file.

    Raises:
        ConfigurationError: the file is there and cannot be read, or holds no token.
    """
    try:
        return read_bounded(path, _MAXIMUM_TOKEN_BYTES, "join token file").decode("ascii").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ConfigurationError(f"join token file {str(path)!r} holds no join token") from None
