"""grpcio servers, sync and asyncio, whose calls all go past the verdict on their caller."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final, NoReturn

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from authsec_sdk.authz import Authorizer, RequestAuthorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._grpc_callers import (
    AuthContext,
    CallerVerifier,
    CallRefused,
    CredentialsFollower,
    peer_spiffe_id,
    remember_peer,
)
from authsec_sdk.integrations._grpc_channel import Options
from authsec_sdk.integrations._grpc_methods import MethodPolicy
from authsec_sdk.integrations._grpc_streams import judged_again
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook

__all__ = ["MTLSAioServer", "MTLSServer", "mtls_aio_server", "mtls_server"]

_AGE: Final = "grpc.max_connection_age_ms"
MAX_CONNECTION_AGE_MS: Final = 30 * 60 * 1000
_GUARDED_KEPT: Final = 512

Behavior = Callable[..., Any]


def mtls_server(
    thread_pool: Executor,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    methods: Mapping[str, Authorizer] | None = None,
    policy: RequestAuthorizer | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
    options: Options = (),
    on_rejected: RejectionHook | None = None,
    **more: Any,
) -> MTLSServer:
    """Return a `grpc.Server` for `add_mtls_port`, whose handlers run for callers that the policy accepts only.

    `authorizer` says who may call at all; `methods` says more for some methods, as `MethodPolicy` has it; `policy`, a
    `Policy` or `PolicyFile`, must accept each call, too, and a stream ends at its next message when it is not accepted
    any more (but not at one that an asyncio handler passes by `context.read()` and `context.write()`). A caller is
    refused when its call comes, with UNAUTHENTICATED or PERMISSION_DENIED, and told nothing else; each refusal goes to
    the log and to `on_rejected`. Calls that come over an open connection are judged anew, by the newest bundles; how
    long a connection lives is `grpc.max_connection_age_ms` of `options`, 30 minutes unless given. `interceptors` run
    behind the verdict as far as they wrap handlers; `more` are the other arguments of `grpc.server`.

    Raises:
        CallerError, InvalidAuthorizerError: the policy is none.
    """
    verifier = CallerVerifier(source, MethodPolicy(authorizer, methods, policy), on_rejected)
    inner = grpc.server(
        thread_pool, interceptors=[_Interceptor(verifier), *interceptors], options=_all(options), **more
    )
    return MTLSServer(inner, CredentialsFollower(source), verifier)


def mtls_aio_server(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    methods: Mapping[str, Authorizer] | None = None,
    policy: RequestAuthorizer | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    options: Options = (),
    on_rejected: RejectionHook | None = None,
    **more: Any,
) -> MTLSAioServer:
    """Return what `mtls_server` does as a `grpc.aio.Server`; `more` are the other arguments of `grpc.aio.server`.

    Raises:
        CallerError, InvalidAuthorizerError: the policy is none.
    """
    verifier = CallerVerifier(source, MethodPolicy(authorizer, methods, policy), on_rejected)
    inner = grpc.aio.server(interceptors=[_AioInterceptor(verifier), *interceptors], options=_all(options), **more)
    return MTLSAioServer(inner, CredentialsFollower(source), verifier)


def _all(options: Options) -> list[tuple[str, Any]]:
    return [*options] if any(name == _AGE for name, _ in options) else [(_AGE, MAX_CONNECTION_AGE_MS), *options]


class _Guarded:
    """What both kinds of server have: ports for mutual TLS, and no others."""

    _inner: Any
    _follower: CredentialsFollower
    _verifier: CallerVerifier

    @property
    def rejections(self) -> int:
        """How many calls were refused."""
        return self._verifier.rejections

    def add_mtls_port(self, address: str) -> int:
        """Listen on `address` (`127.0.0.1:8443`, `[::]:0`) once the server starts, and return the port.

        Raises:
            NotReadyError, NoIdentityError, SourceClosedError: the source has no identity to begin with.
            RuntimeError: grpcio cannot have the address.
        """
        port: int = self._inner.add_secure_port(address, self._follower.credentials())
        return port

    def add_insecure_port(self, address: str) -> NoReturn:
        """Refuse.

        Raises:
            CallerError: always.
        """
        raise CallerError(f"{address}: this server speaks mutual TLS only; use add_mtls_port()")

    def add_secure_port(self, address: str, server_credentials: object = None) -> NoReturn:
        """Refuse: credentials come from the source.

        Raises:
            CallerError: always.
        """
        raise CallerError(f"{address}: the credentials of this server come from its source; use add_mtls_port()")

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """As `grpc.Server.add_generic_rpc_handlers`."""
        self._inner.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """As `grpc.Server.add_registered_method_handlers`."""
        self._inner.add_registered_method_handlers(service_name, method_handlers)


class MTLSServer(_Guarded, grpc.Server):  # type: ignore[misc] # grpcio has no types
    """A `grpc.Server` for mutual TLS; made by `mtls_server`."""

    def __init__(self, inner: Any, follower: CredentialsFollower, verifier: CallerVerifier) -> None:
        self._inner, self._follower, self._verifier = inner, follower, verifier

    def start(self) -> None:
        """As `grpc.Server.start`."""
        self._inner.start()

    def stop(self, grace: float | None) -> Any:
        """As `grpc.Server.stop`."""
        return self._inner.stop(grace)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As `grpc.Server.wait_for_termination`."""
        return bool(self._inner.wait_for_termination(timeout))


class MTLSAioServer(_Guarded, grpc.aio.Server):  # type: ignore[misc] # grpcio has no types
    """A `grpc.aio.Server` for mutual TLS; made by `mtls_aio_server`."""

    def __init__(self, inner: Any, follower: CredentialsFollower, verifier: CallerVerifier) -> None:
        self._inner, self._follower, self._verifier = inner, follower, verifier

    async def start(self) -> None:
        """As `grpc.aio.Server.start`."""
        await self._inner.start()

    async def stop(self, grace: float | None) -> None:
        """As `grpc.aio.Server.stop`."""
        await self._inner.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As `grpc.aio.Server.wait_for_termination`."""
        return bool(await self._inner.wait_for_termination(timeout))


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[misc] # grpcio has no types
    def __init__(self, verifier: CallerVerifier) -> None:
        self._verifier = verifier
        self._guarded = _once(self._guard)

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return self._guarded(continuation(handler_call_details), handler_call_details.method)

    def _guard(self, handler: Any, method: str) -> Any:
        admit = functools.partial(_admit, self._verifier, method)
        return _rewrapped(
            _followed(handler, self._verifier, method), lambda behavior, _streams: _guard(behavior, admit)
        )


class _AioInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpcio has no types
    def __init__(self, verifier: CallerVerifier) -> None:
        self._verifier = verifier
        self._guarded = _once(self._guard)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return self._guarded(await continuation(handler_call_details), handler_call_details.method)

    def _guard(self, handler: Any, method: str) -> Any:
        return _rewrapped(
            _followed(handler, self._verifier, method), functools.partial(_aio_guard, self._verifier, method)
        )


def _followed(handler: Any, verifier: CallerVerifier, method: str) -> Any:
    """Let streams follow the policy, where there is one that can change."""
    if verifier.generation is None or not (handler.request_streaming or handler.response_streaming):
        return handler
    follow = functools.partial(
        judged_again,
        generation=lambda: verifier.generation,
        admit=functools.partial(_admit, verifier, method),
        aio_admit=functools.partial(_aio_admit, verifier, method),
        takes=bool(handler.request_streaming),
    )
    return _rewrapped(handler, lambda behavior, gives: follow(behavior, gives=gives))


def _once(guard: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Let `guard` wrap each handler of a method once, as a rule, and not for each call: that cost 10 µs."""
    remembered = functools.lru_cache(maxsize=_GUARDED_KEPT)(guard)

    def guarded(handler: Any, method: str) -> Any:
        if handler is None:  # under names that callers make up: not to be remembered
            return guard(_UNKNOWN, method)
        try:
            hash(handler)
        except TypeError:
            return guard(handler, method)
        return remembered(handler, method)

    return guarded


def _admit(verifier: CallerVerifier, method: str, context: Any) -> AuthContext:
    """Let a call go on or abort it, in a thread: of a sync server, or of an asyncio one with a sync handler."""
    known: AuthContext = context.auth_context()
    try:
        remember_peer(known, verifier.admit(known, method))
    except CallRefused as refused:
        context.abort(refused.code, refused.text)
        raise  # abort() raises; this is for a context that does not
    return known


async def _aio_admit(verifier: CallerVerifier, method: str, context: Any) -> None:
    known: AuthContext = context.auth_context()
    try:
        remember_peer(known, verifier.admit(known, method))
    except CallRefused as refused:
        await context.abort(refused.code, refused.text)
        raise


def _guard(behavior: Behavior, admit: Callable[[Any], object]) -> Behavior:
    @functools.wraps(behavior)
    def guarded(request: Any, context: Any, *more: Any) -> Any:
        admit(context)
        return behavior(request, context, *more)

    return guarded


def _aio_guard(verifier: CallerVerifier, method: str, behavior: Behavior, streams: bool) -> Behavior:
    """Guard a handler with one of its own kind: grpcio looks at what it is to know how to run it."""
    if inspect.iscoroutinefunction(behavior):

        async def awaited(request: Any, context: Any) -> Any:
            await _aio_admit(verifier, method, context)
            return await behavior(request, context)

        return awaited
    if inspect.isasyncgenfunction(behavior):

        async def generated(request: Any, context: Any) -> AsyncIterator[Any]:
            await _aio_admit(verifier, method, context)
            async with contextlib.aclosing(behavior(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return generated
    if not streams:
        return _guard(behavior, functools.partial(_admit, verifier, method))

    def iterated(request: Any, context: Any) -> Iterator[Any]:
        known = _admit(verifier, method, context)
        peer = peer_spiffe_id(context)
        answers = iter(behavior(request, context))
        while True:
            remember_peer(known, peer)  # each step may run in another thread
            try:
                answer = next(answers)
            except StopIteration:
                return
            yield answer

    return iterated


_MAKERS: Final = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


def _rewrapped(handler: Any, guard: Callable[[Behavior, bool], Behavior]) -> Any:
    """Return a method handler of the same kind with its behavior guarded."""
    kind = ("stream" if handler.request_streaming else "unary", "stream" if handler.response_streaming else "unary")
    name = "_".join(kind)
    behavior = getattr(handler, name)
    return _MAKERS[name](
        guard(behavior, bool(handler.response_streaming)), handler.request_deserializer, handler.response_serializer
    )


def _no_method(_request: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


# What exists is nobody's business who is not let in: an unknown method gets its verdict first, too.
_UNKNOWN: Final = grpc.stream_unary_rpc_method_handler(_no_method)
