"""`WorkloadAPIClient` of authsec-sdk 4.x, over today's client: same calls, same answers, and the standard's wire."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing
from typing import Any

from authsec_sdk import workloadapi
from authsec_sdk.compat.claims import validated
from authsec_sdk.compat.pem import bundle_pem, certificate_pem, key_pem
from authsec_sdk.errors import CallerError, SpiffeError
from authsec_sdk.spiffe import JWTSVID, SpiffeID, X509Context

__all__ = ["WorkloadAPIClient"]

TIMEOUT = 30.0


class WorkloadAPIClient:
    """The client as 4.x had it, for asyncio::

        client = WorkloadAPIClient(socket_path="unix:///run/spire/sockets/agent.sock")
        await client.connect()
        if not await client.fetch_x509_svid_once():
            raise client.last_error

    Unlike 4.x: an agent that keeps the standard understands it; without `socket_path` `SPIFFE_ENDPOINT_SOCKET` says
    where the agent is; streams are opened again when they end; tokens are never None but for one that is invalid:
    whatever else goes wrong is raised, and in `last_error`. New code uses `authsec_sdk.workloadapi.WorkloadAPIClient`,
    or `X509Source`, which works on trio and in threads too.

    Raises:
        InvalidEndpointError: the address is missing or wrong.
    """

    def __init__(self, socket_path: str | None = None, logger: logging.Logger | None = None) -> None:
        self._client = workloadapi.WorkloadAPIClient(socket_path)
        self._logger = logger or logging.getLogger(__name__)
        self._context: X509Context | None = None
        self._stream: asyncio.Task[None] | None = None
        self.last_error: Exception | None = None
        """Why the last call did not give what it was called for; None if it did."""

    @property
    def socket_path(self) -> str:
        """Where the agent is."""
        return str(self._client.endpoint)

    async def connect(self) -> None:
        """Do nothing: each call has a connection of its own, opened when it begins."""

    async def disconnect(self) -> None:
        """End the stream, if there is one. What is known stays. Again, a no-op."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stream

    # --- X.509 -----------------------------------------------------------------------------------------------------

    async def fetch_x509_svid_once(self) -> bool:
        """Fetch the SVID as it is now; if that fails return False, and `last_error` says why."""
        try:
            self._context = await self._client.fetch_x509_context(timeout=TIMEOUT)
        except SpiffeError as error:
            self.last_error = error
            return False
        self.last_error = None
        return True

    async def start_streaming(self, on_update: Callable[["WorkloadAPIClient"], Any] | None = None) -> None:
        """Follow the SVID in a task of this client until `disconnect`, and call `on_update(client)` after each change.

        A callback that fails is logged and called again at the next change; it may be a coroutine function.

        Raises:
            CallerError: there is a stream already.
        """
        if self._stream is not None and not self._stream.done():
            raise CallerError("this client streams already; await disconnect() first")
        self._stream = asyncio.create_task(self._follow(on_update), name="authsec-workload-api-stream")

    def has_svid(self) -> bool:
        """Say whether an SVID has arrived."""
        return self._context is not None

    @property
    def spiffe_id(self) -> str | None:
        """Who this process is, or None while that is not known. So are the attributes below, as PEM."""
        return None if self._context is None else str(self._context.svid.id)

    @property
    def certificate(self) -> str | None:
        """The chain, leaf first."""
        return None if self._context is None else certificate_pem(self._context.svid)

    @property
    def trust_bundle(self) -> str | None:
        """The authorities of our own trust domain."""
        return None if self._context is None else bundle_pem(self._context)

    def get_mtls_config(self) -> dict[str, str] | None:
        """Return certificate, key and authorities as PEM text by the names `cert`, `key` and `ca_bundle`."""
        context = self._context
        if context is None:
            return None
        return {
            "cert": certificate_pem(context.svid),
            "key": key_pem(context.svid),
            "ca_bundle": bundle_pem(context),
        }

    async def fetch_x509_bundles_stream(self) -> AsyncIterator[dict[str, bytes]]:
        """Yield the authorities as DER by the SPIFFE ID of their trust domain, now and whenever they change."""
        async with aclosing(self._client.watch_x509_bundles()) as updates:
            async for bundles in updates:
                yield {str(domain.id): bundles[domain].to_der() for domain in bundles}

    # --- JWT -------------------------------------------------------------------------------------------------------

    async def fetch_jwt_svid(self, audience: Collection[str], spiffe_id: str | SpiffeID | None = None) -> str:
        """Return a token for all names of `audience`.

        Raises:
            SpiffeError: there is none to be had; of which kind, and why, says the error.
        """
        return (await self._noting(self._client.fetch_jwt_svid(audience, subject=spiffe_id, timeout=TIMEOUT))).token

    async def validate_jwt_svid(self, token: str, audience: str) -> dict[str, Any] | None:
        """Let the agent validate a token: its `spiffe_id` and `claims`, or None where it is invalid.

        Raises:
            SpiffeError: the agent cannot tell.
        """
        try:
            return await validated(self._noting(self._client.validate_jwt_svid(token, audience, timeout=TIMEOUT)))
        finally:
            del token  # tracebacks show locals

    def __repr__(self) -> str:
        return f"<WorkloadAPIClient {self.socket_path} {self.spiffe_id or 'no identity'}>"

    def __getattr__(self, name: str) -> Any:
        if name == "private_key":  # here, so that neither `dir` nor a debugger's view of the object shows it
            return None if self._context is None else key_pem(self._context.svid)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def _noting(self, call: Any) -> JWTSVID:
        try:
            svid: JWTSVID = await call
        except SpiffeError as error:
            self.last_error = error
            raise
        self.last_error = None
        return svid

    async def _follow(self, on_update: Callable[["WorkloadAPIClient"], Any] | None) -> None:
        try:
            async with aclosing(self._client.watch_x509_contexts()) as contexts:
                async for context in contexts:
                    self._context, self.last_error = context, None
                    await self._tell(on_update)
        except SpiffeError as error:
            self.last_error = error
            self._logger.error("the stream of SVIDs has ended: %s", error)  # noqa: TRY400 - it says what happened

    async def _tell(self, on_update: Callable[["WorkloadAPIClient"], Any] | None) -> None:
        if on_update is None:
            return
        try:
            answer = on_update(self)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            self._logger.exception("the callback for updates failed callback=%r", on_update)
