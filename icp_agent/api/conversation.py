"""A stream on which both sides speak at any time: requests change what is asked for, updates what is true."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from authsec_sdk.errors import CallerError
from authsec_sdk.rpc import GRPCError, Status
from icp_agent.api.callers import Caller
from icp_agent.api.subscription import Subscription
from icp_agent.domain.identity_cache import WorkloadView
from icp_agent.domain.secret_streams import TooManyNamesError, UnknownSecretsError, Update
from icp_agent.domain.secrets import AllBundlesError

_STATUS: Final[tuple[tuple[type[CallerError], Status], ...]] = (
    (UnknownSecretsError, Status.INVALID_ARGUMENT),
    (AllBundlesError, Status.INTERNAL),  # upstream's choice
    (TooManyNamesError, Status.RESOURCE_EXHAUSTED),
)
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class State(Protocol[R_contra]):
    """What decides: see `SecretStream`. Every method may raise what `refusals` knows."""

    @property
    def wants_certificates(self) -> bool:
        """Whether SVIDs are worth waiting for."""
        ...

    def take(self, request: R_contra) -> None:
        """Note a request."""
        ...

    def updated(self, view: WorkloadView) -> None:
        """Note what the workload may know."""
        ...

    def due(self) -> Update | None:
        """What to send now."""
        ...


class refusals:  # noqa: N801 - reads as a statement: with refusals():
    """Turn what cannot be asked for into the status a client gets."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: TracebackType | None) -> None:
        for refusal, status in _STATUS:
            if isinstance(error, refusal):
                raise GRPCError(status, str(error)) from error


async def converse(
    stream: Any,
    caller: Caller,
    state: State[R],
    *,
    read: Callable[[Any], R],
    write: Callable[[Update], Any],
    subscribe: Callable[[bool], Subscription],
) -> None:
    """Take requests and send what is due until the client ends its side.

    `subscribe(certificates)` gives what the caller may know over time. The caller is attested when the first request is
    there, again when the subscription says so, and is the process that connected before each message.

    Raises:
        GRPCError: the stream ends with it: as `Subscription`, or what is asked for is not the caller's.
    """
    first = await stream.recv_message()
    if first is None:
        return
    # The first request has to come soon; another one may never be needed, and the kernel tells if the client goes.
    stream.limits = replace(stream.limits, receive_timeout=None)
    with refusals():
        state.take(read(first))
    async with _Coming(stream.recv_message) as requests:
        while True:
            certificates = state.wants_certificates
            async with AsyncExitStack() as stack:
                views = await stack.enter_async_context(aclosing(subscribe(certificates).views()))
                updates = await stack.enter_async_context(_Coming(views.__anext__))
                while True:
                    await asyncio.wait({requests.task, updates.task}, return_when=asyncio.FIRST_COMPLETED)
                    with refusals():
                        if requests.task.done():
                            message = requests.take()
                            if message is None:
                                return
                            state.take(read(message))
                            if state.wants_certificates != certificates:
                                break  # these views may lack what is asked for now
                        if updates.task.done():
                            state.updated(updates.take())
                        due = state.due()
                    if due is not None:
                        caller.verify_still_same()
                        await stream.send_message(write(due))


class _Coming(Generic[R]):
    """The next one of what comes again and again: awaited beside other things, and never lost in between."""

    def __init__(self, next_: Callable[[], Awaitable[R]]) -> None:
        self._next = next_
        self._task: asyncio.Task[R] | None = None

    @property
    def task(self) -> "asyncio.Task[R]":
        """The wait for the next one."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._wait())
        return self._task

    async def _wait(self) -> R:
        return await self._next()

    def take(self) -> R:
        """What has come. Raises: what the wait ended with."""
        task, self._task = self.task, None
        return task.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # seen: nobody asks for it any more
