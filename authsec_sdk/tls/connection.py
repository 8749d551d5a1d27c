"""Connections that are not usable before their peer is verified: a gate in place of OpenSSL's object until then.

`ssl.SSLObject` and `ssl.SSLSocket` do all their work through one attribute, `_sslobj`. Ours holds a `HandshakeGate`
there until the peer is accepted, and OpenSSL's object afterwards. So no path leads round the verdict, an implicit
handshake by the first read or write neither, and an accepted connection costs nothing more than one of the standard
library. The same attribute is how a connection is ended from outside (`end_connections`).
"""

from __future__ import annotations

import contextlib
import copy
import math
import socket
import ssl
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from authsec_sdk.errors import SpiffeError, UntrustedPeerError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls.errors import ConnectionEndedError, ContextSettingError, PeerVerificationError

if TYPE_CHECKING:  # the facade makes connections, not the reverse
    from authsec_sdk.tls.context import SpiffeSSLContext
    from authsec_sdk.tls.generation import Generation
    from authsec_sdk.tls.peer import PeerVerifier, RawTLS
    from authsec_sdk.tls.proof import Proof

__all__ = [
    "HandshakeGate",
    "SharedHandshakeGate",
    "SpiffeSSLObject",
    "SpiffeSSLSocket",
    "drain_due",
    "end_connection",
    "end_connections",
    "hand_on",
    "peer_spiffe_id",
]

_STANDARD_SOCKET: Final = ssl.SSLSocket

_Refusal: TypeAlias = tuple[SpiffeError, SpiffeID | None]

# Harmless before the verdict: they tell of the handshake and carry no application data.
_OPEN: Final = frozenset(
    {
        "cipher", "compression", "get_channel_binding", "get_unverified_chain", "get_verified_chain", "getpeercert",
        "group", "pending", "selected_alpn_protocol", "server_hostname", "server_side", "session_reused",
        "shared_ciphers", "version",
    }
)  # fmt: skip


class HandshakeGate:
    """Stands where OpenSSL's object would, until the peer is accepted; for ever, if it is refused."""

    __slots__ = ("_begun", "_generation", "_owner", "_raw", "_rechecks", "_refusal", "_verifier")

    def __init__(
        self,
        raw: RawTLS,
        owner: weakref.ref[SpiffeSSLObject | SpiffeSSLSocket],
        generation: Generation,
        verifier: PeerVerifier,
    ) -> None:
        self._raw = raw
        self._owner = owner  # which holds us: no cycle, so that a dropped socket closes at once
        self._generation = generation
        self._verifier = verifier
        self._begun = time.monotonic()
        self._rechecks = verifier.rechecks
        self._refusal: _Refusal | None = None

    def do_handshake(self) -> None:
        """Go on with the handshake; when it is complete, judge the peer and open the gate.

        Nothing but an accepted peer opens it. Whatever interrupts the verdict leaves it shut, and the next use asks for
        the verdict again.

        Raises:
            PeerVerificationError: the peer is refused, now or before.
            ssl.SSLError: what OpenSSL says about anything else, such as `SSLWantReadError`.
        """
        if self._refusal is not None:
            raise self._again()
        raw = self._raw
        try:
            raw.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._refused_by_openssl(error)
            raise
        verifier = self._verifier
        rechecks = verifier.rechecks
        try:
            proof = verifier.verify(raw, self._generation, self._begun, rechecked=rechecks != self._rechecks)
        except PeerVerificationError as refusal:
            self._refusal = _bare(refusal)
            raise
        owner = self._owner()
        if owner is not None:
            if self._generation.sessions is None:  # else the inner context is needed to keep the ticket that will come
                # From here on OpenSSL's object itself does not show the inner context either.
                raw.context = owner._spiffe_context
            owner._proof = proof
            owner._peer_spiffe_id = peer = None if proof is None else proof.peer
            if owner._sslobj is self:  # else it was ended or closed meanwhile, and stays so
                plain = self._generation.sessions is None and not verifier.bounds_lifetime
                hand_on(owner, raw if plain else verifier.guarded(raw, owner, self._generation))
                if verifier.rechecks != rechecks:  # it may have passed over this one
                    verifier.recheck()
                verifier.accepted(peer, self._generation, self._begun)

    def _refused_by_openssl(self, error: ssl.SSLError) -> None:
        refusal = self._verifier.refused_by_openssl(self._raw, error, self._generation)
        if refusal is not None:
            self._refusal = _bare(refusal)
            try:
                raise refusal from error
            finally:
                del refusal  # else its traceback would keep it, and the connection, until the next collection

    def read(self, *args: Any) -> Any:
        """Finish the handshake first, as OpenSSL would; then read."""
        self.do_handshake()
        return self._opened().read(*args)

    def write(self, data: Any, /) -> int:
        """Finish the handshake first, as OpenSSL would; then write."""
        self.do_handshake()
        written: int = self._opened().write(data)
        return written

    def _opened(self) -> Any:
        """Return what the connection works through now: what came of the verdict, or of whoever ended it since."""
        owner = self._owner()
        through = None if owner is None else owner._sslobj
        return self._raw if through is None or through is self else through

    def shutdown(self) -> NoReturn:
        """Refuse: there is no session to end in good order yet, and a refused peer is owed no goodbye."""
        if self._refusal is not None:
            raise self._again()
        raise ConnectionEndedError("unwrap() before the handshake is complete")

    def switch(self, context: SpiffeSSLContext) -> None:
        """Go on with another context: its identity, trust and policy together. For a server's SNI callback."""
        generation = context._generation()
        if self._generation.settings.resumption or generation.settings.resumption:
            raise ContextSettingError("a context with resumption is neither changed for another nor another for it")
        if not (generation.role.server_side and self._generation.role.server_side):
            raise ContextSettingError("only a server's connection can be given another context, and only a server's")
        self._raw.context = generation.context_for_connection()
        self._generation = generation
        self._verifier = context._verifier
        self._rechecks = self._verifier.rechecks
        owner = self._owner()
        if owner is not None:
            owner._begin(context, generation)

    @property
    def session(self) -> None:
        """No session: sessions are never resumed."""
        return None

    @session.setter
    def session(self, _value: object) -> NoReturn:
        raise ContextSettingError("a SPIFFE context resumes no session: every connection verifies its peer anew")

    def _again(self) -> PeerVerificationError:
        assert self._refusal is not None
        reason, spiffe_id = self._refusal
        return PeerVerificationError(reason, spiffe_id)

    def __getattr__(self, name: str) -> Any:
        if name in _OPEN:
            return getattr(self._raw, name)
        raise AttributeError(f"{name} is not available before the peer is verified")


class SharedHandshakeGate(HandshakeGate):
    """A gate for sockets: one thread may read and another write, and neither did the handshake before."""

    __slots__ = ("_lock",)

    def __init__(
        self,
        raw: RawTLS,
        owner: weakref.ref[SpiffeSSLObject | SpiffeSSLSocket],
        generation: Generation,
        verifier: PeerVerifier,
    ) -> None:
        super().__init__(raw, owner, generation, verifier)
        self._lock = threading.RLock()

    def do_handshake(self) -> None:
        """As `HandshakeGate.do_handshake`, one thread after the other, and once."""
        with self._lock:
            owner = self._owner()
            if owner is None or owner._sslobj is self:  # else another thread was faster
                super().do_handshake()


def _bare(refusal: PeerVerificationError) -> _Refusal:
    """Return what a refusal says without its tracebacks, whose frames would hold the gate that keeps it."""
    reason: SpiffeError
    try:
        reason = copy.copy(refusal.reason)
    except Exception:  # noqa: BLE001 - an authorizer's own error class, which may not allow it
        reason = UntrustedPeerError(str(refusal.reason))
    return reason, refusal.spiffe_id


class _Ended:
    """Stands where OpenSSL's object was: every use says why the connection is over."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __getattr__(self, name: str) -> NoReturn:
        raise ConnectionEndedError(self._text)


_NOT_CONNECTED: Final = _Ended("connect() has failed: nothing is sent without TLS; connect again or close")


def hand_on(owner: Any, through: object) -> None:
    """Let a connection work through something else from now on, unless another thread ends it at this very moment."""
    before, owner._sslobj = owner._sslobj, through
    if owner._generation is None:  # which whoever ends a connection says first
        owner._sslobj = before if isinstance(before, _Ended) else _Ended("this connection was ended meanwhile")


def end_connection(owner: Any, text: str) -> None:
    """End one connection: any further use raises `text`, and a thread that waits in a blocking socket is woken.

    No TLS goodbye is sent.
    """
    owner._generation = None
    owner._sslobj = _Ended(text)
    if isinstance(owner, socket.socket):
        with contextlib.suppress(OSError):  # it may be closed, or never have been connected
            socket.socket.shutdown(owner, socket.SHUT_RDWR)


def end_connections(generation: Generation, text: str) -> int:
    """End every connection of a generation: OpenSSL's objects, keys and all, are freed, and any use raises `text`.

    Nothing is sent, no TLS goodbye either. Returns how many there were.
    """
    ended = 0
    for owner in generation.connections():
        if owner._generation is generation and owner._sslobj is not None:
            owner._generation = None
            owner._sslobj = _Ended(text)
            ended += 1
    return ended


class _PeerKnown:
    """What both kinds of connection add to the standard library's."""

    _sslobj: Any
    _spiffe_context: SpiffeSSLContext
    _generation: Generation | None = None  # kept alive, and with it the list by which its connections are found
    _peer_spiffe_id: SpiffeID | None = None
    _proof: Proof | None = None  # of an accepted peer that has an ID
    _drain_at = math.inf

    @property
    def peer_spiffe_id(self) -> SpiffeID | None:
        """The proven and authorized ID of the peer. None before the handshake, and of a peer without a certificate."""
        return self._peer_spiffe_id

    @property
    def drain_due(self) -> bool:
        """Whether `LiveChecks.maximum_age` is reached: finish what is under way, begin nothing, and close."""
        return time.monotonic() >= self._drain_at

    def verify_client_post_handshake(self) -> NoReturn:
        """Refuse: a certificate that arrives later would arrive behind the verdict."""
        raise ContextSettingError("peers are verified in the handshake, never after it")

    def _begin(self, context: SpiffeSSLContext, generation: Generation) -> weakref.ref[Any]:
        self._spiffe_context = context
        self._generation = generation
        return generation.add(self)

    def _switch(self, context: object) -> None:
        """Take another context for a handshake that is under way, or that has not begun."""
        from authsec_sdk.tls.context import SpiffeSSLContext

        if not isinstance(context, SpiffeSSLContext):
            raise ContextSettingError(
                "a SPIFFE connection only takes another SpiffeSSLContext: any other has no policy"
            )
        gate = self._sslobj
        if isinstance(gate, HandshakeGate):
            gate.switch(context)
        elif gate is not None:
            raise ContextSettingError("the context of a connection can be changed during its handshake only")


class SpiffeSSLObject(_PeerKnown, ssl.SSLObject):
    """An `ssl.SSLObject` (asyncio, uvloop, trio, anyio …) whose peer was verified before any byte passed."""

    @property
    def context(self) -> SpiffeSSLContext:
        """The facade this connection came from; never an inner context. A server's SNI callback may set another."""
        return self._spiffe_context

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        self._switch(context)


class SpiffeSSLSocket(_PeerKnown, ssl.SSLSocket):
    """An `ssl.SSLSocket` whose peer was verified before any byte passed."""

    _context: Any

    @classmethod
    def _create(cls, *args: Any, **options: Any) -> SpiffeSSLSocket:
        if ssl.SSLSocket is not _STANDARD_SOCKET:  # where it would fail with a riddle
            raise ContextSettingError(
                f"ssl.SSLSocket has been replaced by {ssl.SSLSocket.__module__} (gevent's monkey.patch_all?): do TLS "
                "with SVIDs in a process that is not patched, with threads or asyncio"
            )
        made: SpiffeSSLSocket = super()._create(*args, **options)  # type: ignore[misc]  # private, as those below
        return made

    @property
    def context(self) -> SpiffeSSLContext:
        """The facade this connection came from; never an inner context. A server's SNI callback may set another."""
        facade: SpiffeSSLContext = self._context
        return facade

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        self._switch(context)
        self._context = context

    # The standard library sets `_sslobj` to None where TLS ends or never began, and from then on sends what it is given
    # as plaintext, as long as the socket below is open. Not so here, not for an instant between two threads either.

    def shutdown(self, how: int) -> None:
        """Shut down one or both directions of the socket; it carries nothing more afterwards."""
        self._checkClosed()  # type: ignore[attr-defined]  # private, as the two below
        if self._sslobj is not None:
            self._sslobj = _Ended("this connection was shut down")
        socket.socket.shutdown(self, how)

    def _real_close(self) -> None:
        if self._sslobj is not None:
            self._sslobj = _Ended("this connection is closed")
        try:
            socket.socket._real_close(self)  # type: ignore[attr-defined]
        finally:
            self._sslobj = None

    def _real_connect(self, addr: Any, connect_ex: bool) -> Any:
        if self._sslobj is _NOT_CONNECTED:
            self._sslobj = None
        try:
            return super()._real_connect(addr, connect_ex)  # type: ignore[misc]
        except (OSError, ValueError) as error:
            if self._sslobj is None:
                if self._connected or isinstance(error, ssl.SSLError):  # type: ignore[attr-defined]
                    self.close()
                else:  # the network may still be connecting: a timeout, or a socket that does not block
                    self._sslobj = _NOT_CONNECTED
            raise


def peer_spiffe_id(connection: object) -> SpiffeID | None:
    """Return the ID which the handshake of a connection proved; None if none was: no TLS, foreign TLS, no certificate.

    Takes what frameworks hand out: an `ssl` object or socket of ours, an asyncio transport or `StreamWriter`, an
    httpcore network stream, an anyio `TLSStream`, a trio `SSLStream`.
    """
    found = _known(connection)
    return None if found is None else found.peer_spiffe_id


def drain_due(connection: object) -> bool:
    """Say whether a connection has reached the maximum age of its context: let go of it when the time is good.

    Takes what `peer_spiffe_id` takes. False for every connection that is none of ours.
    """
    found = _known(connection)
    return found is not None and found.drain_due


def _known(connection: object) -> _PeerKnown | None:
    """Find our object in what a framework hands out."""
    seen = connection
    for _ in range(4):  # a transport, in it a stream, in it an object
        if isinstance(seen, _PeerKnown):
            return seen
        extra = getattr(seen, "get_extra_info", None)
        if callable(extra):
            seen = extra("ssl_object")
        else:  # anyio and trio keep it under the first name; OpenSSL's own object knows ours by the second
            seen = getattr(seen, "_ssl_object", None) or getattr(seen, "owner", None)
    return None
