"""Django behind mutual TLS, on WSGI and ASGI: the peer of each request, and who may use which view.

In the settings::

    INSTALLED_APPS = ["authsec_sdk.integrations.django.SpiffeConfig", ...]              # the system checks
    MIDDLEWARE = ["authsec_sdk.integrations.django.SpiffeMiddleware", ...]              # first
    SPIFFE_AUTHORIZER = authorize_member_of("example.org")                              # or a policy
    SPIFFE_TRUSTED_FRONTS = TrustedFronts("spiffe://example.org/me", ["spiffe://example.org/front"])  # optional
    SPIFFE_FORWARDED_AUTHORIZER = authorize_id("spiffe://example.org/user")             # optional, of their clients
    SPIFFE_ON_REFUSED = some_function                                                   # optional: peer, path, reason

Every request must then come over a connection whose peer the authorizer accepts; a view has ``request.spiffe_peer``, a
`SpiffeID`, and ``request.spiffe_client``, a `ForwardedPeer` or None. :func:`authorize_peer` narrows it for one view.
The peer comes from the server as :mod:`authsec_sdk.integrations.wsgi` and :mod:`authsec_sdk.integrations.asgi` say.
"""

import functools
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import AppConfig  # type: ignore[import-untyped] # Django has no types
from django.conf import settings  # type: ignore[import-untyped]
from django.core.checks import CheckMessage, Error, Warning, register  # type: ignore[import-untyped] # noqa: A004
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]

from authsec_sdk.authz import Authorizer, Request, RequestAuthorizer, require_authorizer
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, SpiffeError
from authsec_sdk.integrations import asgi, wsgi
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE, Judge, authorize_forwarded, require_judge
from authsec_sdk.integrations.trusted_front import (
    ForwardedPeer,
    TrustedFronts,
    is_forwarded_header,
    without_forwarded,
)
from authsec_sdk.spiffe import SpiffeID

__all__ = ["SpiffeConfig", "SpiffeMiddleware", "authorize_peer", "check_settings"]

View = TypeVar("View", bound=Callable[..., Any])
GetResponse: TypeAlias = Callable[[HttpRequest], Any]

_MIDDLEWARE = "authsec_sdk.integrations.django.SpiffeMiddleware"
_KNOWN = frozenset({"SPIFFE_AUTHORIZER", "SPIFFE_FORWARDED_AUTHORIZER", "SPIFFE_ON_REFUSED", "SPIFFE_TRUSTED_FRONTS"})

logger = logging.getLogger(__name__)


class SpiffeConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """The application that brings the system checks."""

    name = "authsec_sdk.integrations.django"
    label = "spiffe"
    verbose_name = "SPIFFE"

    def ready(self) -> None:
        """Register the checks."""
        register(check_settings, "security")


@dataclass(frozen=True, slots=True)
class _Settings:
    judge: Judge
    fronts: TrustedFronts | None
    of_client: Authorizer | None


def check_settings(app_configs: object = None, **_: object) -> list[CheckMessage]:
    """Say what is wrong with the settings; a system check of Django's."""
    found: list[CheckMessage] = []
    try:
        _settings()
    except CallerError as error:
        found.append(Error(str(error), id="spiffe.E001"))
    middleware = list(settings.MIDDLEWARE)
    if _MIDDLEWARE not in middleware:
        found.append(
            Error("the middleware is missing, so nobody is refused", hint=f"add {_MIDDLEWARE!r}", id="spiffe.E002")
        )
    elif middleware[0] != _MIDDLEWARE:
        found.append(
            Warning(
                f"{middleware[0]} comes before SpiffeMiddleware and sees requests of peers that are refused",
                hint="put SpiffeMiddleware first",
                id="spiffe.W001",
            )
        )
    unknown = sorted(name for name in dir(settings) if name.startswith("SPIFFE_") and name not in _KNOWN)
    if unknown:
        found.append(
            Warning(f"{', '.join(unknown)}: not a setting of ours", hint=f"known: {sorted(_KNOWN)}", id="spiffe.W002")
        )
    return found


def _settings() -> _Settings:
    authorizer: Any = getattr(settings, "SPIFFE_AUTHORIZER", None)
    fronts = getattr(settings, "SPIFFE_TRUSTED_FRONTS", None)
    of_client = getattr(settings, "SPIFFE_FORWARDED_AUTHORIZER", None)
    hook = getattr(settings, "SPIFFE_ON_REFUSED", None)
    if fronts is not None and not isinstance(fronts, TrustedFronts):
        raise CallerError(f"SPIFFE_TRUSTED_FRONTS is a {type(fronts).__name__} and no TrustedFronts")
    if of_client is not None and fronts is None:
        raise CallerError("SPIFFE_FORWARDED_AUTHORIZER without SPIFFE_TRUSTED_FRONTS would refuse everybody")
    if hook is not None and not callable(hook):
        raise CallerError("SPIFFE_ON_REFUSED is not callable")
    try:
        judge = require_judge(authorizer)
    except InvalidAuthorizerError as error:
        raise CallerError(f"SPIFFE_AUTHORIZER: {error}") from error
    try:
        client_judge = None if of_client is None else require_authorizer(of_client)
    except InvalidAuthorizerError as error:
        raise CallerError(f"SPIFFE_FORWARDED_AUTHORIZER: {error}") from error
    return _Settings(judge, fronts, client_judge)


class SpiffeMiddleware:
    """Judge the peer of each request before anything else sees it; a refusal is 403 with a problem document (RFC 9457).

    The reason goes to this module's logger at WARNING and to ``SPIFFE_ON_REFUSED``, and not to the peer. The header
    `X-Forwarded-Client-Cert` never reaches a view.

    Raises:
        ImproperlyConfigured: when Django starts, for settings that are missing or wrong.

    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        try:
            self._settings = _settings()
        except CallerError as error:
            raise ImproperlyConfigured(str(error)) from error
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer a request, or return what will."""
        if self._async:
            return self._answer(request)
        refusal = self._judge(request)
        return self._get_response(request) if refusal is None else refusal

    async def _answer(self, request: HttpRequest) -> Any:
        refusal = self._judge(request)
        return await self._get_response(request) if refusal is None else refusal

    def _judge(self, request: HttpRequest) -> HttpResponse | None:
        peer: SpiffeID | None = None
        try:
            peer, request.spiffe_client = _identify(request, self._settings.fronts)
            request.spiffe_peer = peer
            self._settings.judge(peer, _asked(request))
            if self._settings.of_client is not None:
                authorize_forwarded(self._settings.of_client, request.spiffe_client)
        except SpiffeError as refusal:
            return _refused(peer, request, refusal)
        return None


def authorize_peer(
    authorizer: Authorizer | RequestAuthorizer, *, forwarded: Authorizer | None = None
) -> Callable[[View], View]:
    """Return a decorator for views, synchronous or not, that refuses whom an authorizer or policy does not accept.

    It narrows what ``SPIFFE_AUTHORIZER`` allows. With ``forwarded`` the peer must be a trusted front too, and that
    judges the client it speaks for. For a class, ``method_decorator(authorize_peer(…), name="dispatch")``.

    Raises:
        InvalidAuthorizerError: one of them cannot be an authorizer.
        ImproperlyConfigured: from a request, where `SpiffeMiddleware` is missing.

    """
    judge = require_judge(authorizer)
    of_client = None if forwarded is None else require_authorizer(forwarded)

    def refusal_of(request: HttpRequest) -> HttpResponse | None:
        peer = getattr(request, "spiffe_peer", None)
        if not isinstance(peer, SpiffeID):
            raise ImproperlyConfigured(f"authorize_peer needs {_MIDDLEWARE!r} in MIDDLEWARE")
        try:
            judge(peer, _asked(request))
            if of_client is not None:
                authorize_forwarded(of_client, request.spiffe_client)
        except SpiffeError as refusal:
            return _refused(peer, request, refusal)
        return None

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def judged_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                refusal = refusal_of(request)
                return await view(request, *args, **kwargs) if refusal is None else refusal

            return judged_async  # type: ignore[return-value] # a view like the one it wraps

        @functools.wraps(view)
        def judged(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refusal = refusal_of(request)
            return view(request, *args, **kwargs) if refusal is None else refusal

        return judged  # type: ignore[return-value]

    return decorate


def _identify(request: HttpRequest, fronts: TrustedFronts | None) -> tuple[SpiffeID, ForwardedPeer | None]:
    """Return the peer of a request and whom it speaks for, and take the header out of the request."""
    try:
        scope = getattr(request, "scope", None)
        if scope is None:
            return _of_environ(request.META, fronts)
        return _of_scope(scope, fronts)
    finally:
        _strip(request)


def _of_environ(environ: wsgi.Environ, fronts: TrustedFronts | None) -> tuple[SpiffeID, ForwardedPeer | None]:
    peer = wsgi.peer_spiffe_id(environ)
    if fronts is None or wsgi.FORWARDED in environ:
        return peer, environ.get(wsgi.FORWARDED)
    return peer, wsgi.read_forwarded(fronts, environ)


def _of_scope(scope: asgi.Scope, fronts: TrustedFronts | None) -> tuple[SpiffeID, ForwardedPeer | None]:
    peer, told = asgi.peer_spiffe_id(scope), scope["extensions"]["spiffe"]
    if fronts is None or "forwarded" in told:
        return peer, told.get("forwarded")
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return peer, fronts.read(peer, headers)


def _strip(request: HttpRequest) -> None:
    for key in [key for key in request.META if key.startswith("HTTP_") and is_forwarded_header(key[len("HTTP_") :])]:
        del request.META[key]
    if hasattr(request, "scope"):
        request.scope["headers"] = without_forwarded(request.scope["headers"])
    request.__dict__.pop("headers", None)  # Django remembers them once they were asked for


def _asked(request: HttpRequest) -> Request:
    """Return the request by the path that Django resolves: without the prefix it is served under, on WSGI and ASGI."""
    scope = getattr(request, "scope", None)
    if scope is None:
        sent, raw = request.META["REQUEST_METHOD"], request.META.get("RAW_URI")
    else:
        sent, raw = scope["method"], (scope.get("raw_path") or b"").decode("latin-1")
    return Request.http(sent, request.path_info, raw)


def _refused(peer: SpiffeID | None, request: HttpRequest, refusal: SpiffeError) -> HttpResponse:
    logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, request.path)
    hook = getattr(settings, "SPIFFE_ON_REFUSED", None)
    if hook is not None:
        hook(peer, request.path, refusal)
    return _Refusal(PROBLEM, status=403, content_type=PROBLEM_TYPE)


class _Refusal(HttpResponse):  # type: ignore[misc] # Django has no types
    """A response that can be awaited too: `dispatch` of a class of asynchronous views is no coroutine function."""

    def __await__(self) -> Generator[Any, Any, HttpResponse]:
        yield from ()
        return self
