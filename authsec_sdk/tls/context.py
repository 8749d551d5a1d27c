"""`SpiffeSSLContext`: an `ssl.SSLContext` for any library, behind which identity and trust are always the newest.

The object is a facade that never makes a connection itself. Both hooks through which the standard library makes them
are overridden and delegate each new connection to the newest generation (an immutable inner context). What libraries
set on a context is kept here and applied to each generation, unless it would break what this context promises.
"""

from __future__ import annotations

import inspect
import logging
import ssl
import threading
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, NoReturn

from authsec_sdk.errors import SpiffeError
from authsec_sdk.tls.connection import HandshakeGate, SharedHandshakeGate, SpiffeSSLObject, SpiffeSSLSocket
from authsec_sdk.tls.errors import ContextSettingError, IdentityUnavailableError
from authsec_sdk.tls.generation import Generation
from authsec_sdk.tls.generations import Built, Generations
from authsec_sdk.tls.groups import apply_groups
from authsec_sdk.tls.peer import PeerVerifier
from authsec_sdk.tls.role import Role
from authsec_sdk.tls.settings import (
    DEFAULT_CIPHERS,
    REQUIRED_OPTIONS,
    Settings,
    SNICallback,
    check_alpn,
    check_cipher_list,
    check_options,
    check_verify_flags,
    check_version,
)
from authsec_sdk.tls.trust import SetAside

__all__ = ["SpiffeSSLContext", "all_contexts"]

logger = logging.getLogger(__name__)

_NO_OTHER_ALGORITHMS: Final = "a SPIFFE context keeps OpenSSL's own %s"
_CONNECTIONS: Final = (SpiffeSSLObject, SpiffeSSLSocket)
_NO_OTHER_TRUST: Final = "Ignored %s on a SPIFFE context: it trusts the bundles of its source and nothing else"


def _of_base(name: str) -> Any:
    """Return a property of the standard library's class, to be used behind the one that overrides it here."""
    return inspect.getattr_static(ssl.SSLContext, name)


class SpiffeSSLContext(ssl.SSLContext):
    """An `ssl.SSLContext` with the newest SVID and bundles of a source, and an authorizer inside the handshake.

    Made by `mtls_client_context` and its siblings. Give it to any library that takes an `ssl.SSLContext`; it never has
    to be replaced. Each connection is refused unless its peer's SPIFFE ID is proven by an authority of the ID's own
    trust domain and accepted by the authorizer, before any application byte passes. A connection that exists goes on
    when identities rotate.

    What a library sets is honoured where it is about the protocol (ALPN, versions, ciphers, options, key log, SNI
    callback). What it adds to the trust store is ignored. What would weaken the verification raises
    `ContextSettingError`. Libraries that set different ALPN protocols must not share one context: give each a `view()`.
    """

    sslobject_class = SpiffeSSLObject
    sslsocket_class = SpiffeSSLSocket

    _settings: Settings
    _generations: Generations
    _verifier: PeerVerifier

    def __new__(cls, generations: Generations, verifier: PeerVerifier, settings: Settings) -> SpiffeSSLContext:
        """Make the facade; its own OpenSSL context stays empty and would refuse everybody."""
        del verifier, settings
        return super().__new__(cls, generations.role.protocol)

    def __init__(self, generations: Generations, verifier: PeerVerifier, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._generations = generations
        self._verifier = verifier
        self._checks_hostname = generations.role.checks_hostname
        self._ready: tuple[Built, Settings, Generation] | None = None
        options = ssl.Options(_of_base("options").__get__(self)) | REQUIRED_OPTIONS | settings.options
        self._settings = replace(settings, options=options)
        # The facade's own context mirrors the settings, so that reading them needs nothing further.
        _of_base("check_hostname").__set__(self, False)
        _of_base("verify_mode").__set__(self, ssl.CERT_REQUIRED)
        _of_base("check_hostname").__set__(self, generations.role.checks_hostname)
        _of_base("options").__set__(self, options)
        _of_base("verify_flags").__set__(self, settings.verify_flags)
        _of_base("minimum_version").__set__(self, settings.minimum_version)
        if settings.maximum_version != ssl.TLSVersion.MAXIMUM_SUPPORTED:
            _of_base("maximum_version").__set__(self, settings.maximum_version)
        super().set_ciphers(settings.ciphers or DEFAULT_CIPHERS)
        super().set_alpn_protocols(settings.alpn)
        generations.register(self)
        _CONTEXTS.add(self)

    def view(self, *, alpn: Iterable[str] | None = None) -> SpiffeSSLContext:
        """Return another context with settings of its own over the same source, policy, generations and counters.

        Cheap. For each library that sets ALPN on the context it is given: two of them on one context undo each other.
        `alpn` None keeps the protocols this context has now.
        """
        settings = self._settings if alpn is None else replace(self._settings, alpn=check_alpn(alpn))
        return SpiffeSSLContext(self._generations, self._verifier, settings)

    @property
    def role(self) -> Role:
        """What this context presents and asks for."""
        return self._generations.role

    @property
    def rejections(self) -> int:
        """How many peers this context and its views have refused."""
        return self._verifier.rejections

    @property
    def generation(self) -> int:
        """The number of the generation that a connection would get now; grows with each rotation.

        Raises:
            IdentityUnavailableError: there is none.
        """
        return self._generation().number

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """What of the newest bundles is not trusted, and why: look-alikes of other authorities, domains past limits."""
        return self._generations.set_aside()

    def recheck(self) -> int:
        """Judge the peers of all open connections of this context and its views again; end those not accepted any more.

        By the newest bundles, and by the authorizer: call this after it has changed its mind, as after a new policy.
        With `LiveChecks(recheck=True)` it happens by itself whenever the source publishes. Returns how many ended; each
        is a refusal for the log, the hook and `rejections`. A blocking socket is closed at once, every other connection
        at its next read or write. An idle connection costs nothing for this, before or after.

        Raises:
            IdentityUnavailableError: the source is closed, or has no bundles yet; every connection goes on.
        """
        return self._verifier.recheck()

    # --- the two hooks ----------------------------------------------------------------------------------------------

    def _wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> HandshakeGate:
        generation, inner = self._begin(owner, session, server_hostname)
        session = None if generation.sessions is None else generation.sessions.take(server_hostname)
        raw = inner._wrap_bio(incoming, outgoing, server_side, server_hostname, owner=owner, session=session)
        return HandshakeGate(raw, owner._begin(self, generation), generation, self._verifier)

    def _wrap_socket(
        self,
        sock: Any,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> HandshakeGate:
        generation, inner = self._begin(owner, session, server_hostname)
        session = None if generation.sessions is None else generation.sessions.take(server_hostname)
        raw = inner._wrap_socket(sock, server_side, server_hostname, owner=owner, session=session)
        return SharedHandshakeGate(raw, owner._begin(self, generation), generation, self._verifier)

    def _begin(self, owner: Any, session: object, server_hostname: str | None) -> tuple[Generation, Any]:
        if self._checks_hostname and not server_hostname:  # `ssl` asks that of sockets, and not of SSLObject
            raise ContextSettingError("a web server is known by its host name: server_hostname must name it")
        if session is not None:
            raise ContextSettingError("a SPIFFE context resumes no session: every connection verifies its peer anew")
        if not isinstance(owner, _CONNECTIONS):
            raise ContextSettingError("sslobject_class and sslsocket_class of a SPIFFE context stay as they are")
        generation = self._generation()
        return generation, generation.shared or generation.context_for_connection()

    def _generation(self) -> Generation:
        """Return the generation for a connection that begins now.

        Raises:
            IdentityUnavailableError: there is none. An `ssl.SSLError`, which servers survive.
        """
        ready, generations, settings = self._ready, self._generations, self._settings
        if generations.certificate is not None:
            generations.look_at_certificate()
        if ready is not None and ready[0] is generations.built and ready[1] is settings:
            generations.check_source()
            return ready[2]
        try:
            generation = generations.current(settings)
        except IdentityUnavailableError:
            raise
        except SpiffeError as error:
            raise IdentityUnavailableError(error) from error
        built = generations.built
        if built is not None and built.generations.get(settings) is generation:
            self._ready = (built, settings, generation)
        return generation

    # --- what libraries set: the protocol ---------------------------------------------------------------------------

    def _set(self, **changes: Any) -> None:
        with self._lock:
            self._settings = replace(self._settings, **changes)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols from the next connection on."""
        alpn = check_alpn(alpn_protocols)
        if alpn != self._settings.alpn:  # httpcore sets the same ones for each connection
            super().set_alpn_protocols(alpn)
            self._set(alpn=alpn)

    @property
    def minimum_version(self) -> ssl.TLSVersion:
        """TLS 1.3, or 1.2 for peers that know no better."""
        return self._settings.minimum_version

    @minimum_version.setter
    def minimum_version(self, value: int) -> None:
        version = check_version(value)
        self._set(minimum_version=version)
        _of_base("minimum_version").__set__(self, version)

    @property
    def maximum_version(self) -> ssl.TLSVersion:
        """The newest that OpenSSL knows, unless set."""
        return self._settings.maximum_version

    @maximum_version.setter
    def maximum_version(self, value: int) -> None:
        _of_base("maximum_version").__set__(self, value)
        self._set(maximum_version=ssl.TLSVersion(value))

    @property
    def options(self) -> ssl.Options:
        """OpenSSL's options; those that prevent resumption, compression and renegotiation stay set."""
        return self._settings.options

    @options.setter
    def options(self, value: int) -> None:
        options = check_options(value)
        _of_base("options").__set__(self, options)
        self._set(options=options)

    @property
    def verify_flags(self) -> ssl.VerifyFlags:
        """How OpenSSL builds chains; VERIFY_X509_STRICT may be added."""
        return self._settings.verify_flags

    @verify_flags.setter
    def verify_flags(self, value: int) -> None:
        flags = check_verify_flags(value)
        _of_base("verify_flags").__set__(self, flags)
        self._set(verify_flags=flags)

    def set_ciphers(self, cipherlist: str, /) -> None:
        """Choose among the TLS 1.2 suites with forward secrecy and authenticated encryption."""
        trial = ssl.SSLContext(self.role.protocol)
        level = trial.security_level
        trial.set_ciphers(cipherlist)
        if trial.security_level < level:
            raise ContextSettingError("@SECLEVEL would let weak keys and signatures into the peer's chain")
        check_cipher_list(trial.get_ciphers())
        super().set_ciphers(cipherlist)
        self._set(ciphers=cipherlist)

    def set_groups(self, grouplist: str, /) -> None:
        """Choose key-exchange groups, for TLS 1.2 and 1.3: names with colons between them, the preferred one first.

        Rather leave OpenSSL's own choice, which has hybrid groups first where it knows them. Python before 3.15 takes
        one group, and none by the name of a hybrid one.

        Raises:
            ContextSettingError: this Python or its OpenSSL does not take them.
        """
        apply_groups(ssl.SSLContext(self.role.protocol), grouplist)
        self._set(groups=grouplist)

    def set_ecdh_curve(self, name: str, /) -> None:
        """Choose one key-exchange group; as `set_groups`."""
        self.set_groups(name)

    def set_ciphersuites(self, *_args: Any) -> NoReturn:
        """Refuse: each suite of TLS 1.3 is good."""
        raise ContextSettingError(_NO_OTHER_ALGORITHMS % "list of TLS 1.3 suites")

    def set_client_sigalgs(self, *_args: Any) -> NoReturn:
        """Refuse: OpenSSL's security level decides which signatures are good enough."""
        raise ContextSettingError(_NO_OTHER_ALGORITHMS % "list of signature algorithms")

    set_server_sigalgs = set_client_sigalgs

    @property  # type: ignore[override]
    def keylog_filename(self) -> str | None:
        """Where session secrets are written for a packet analyser: nowhere, unless set here."""
        return self._settings.keylog_filename

    @keylog_filename.setter
    def keylog_filename(self, value: str | None) -> None:
        _of_base("keylog_filename").__set__(self, value)
        self._set(keylog_filename=value)

    @property  # type: ignore[override]
    def sni_callback(self) -> SNICallback | None:
        """Called in a server's handshake with the connection, the name asked for, and this context.

        It may set the connection's `context` to another server's `SpiffeSSLContext`: identity, trust and policy then
        change together. Whether a certificate is asked for, and which versions are spoken, stays as it was; where the
        new context requires a certificate that is missing, or TLS 1.3 where it is 1.2, the peer is refused.
        """
        return self._settings.sni_callback

    @sni_callback.setter
    def sni_callback(self, value: SNICallback | None) -> None:
        if value is not None and not callable(value):
            raise TypeError("not a callable object")
        if not self.role.server_side:
            raise ValueError("sni_callback cannot be set on a client's context")
        self._set(sni_callback=value)

    # --- what libraries set: the verification -----------------------------------------------------------------------

    @property
    def check_hostname(self) -> bool:
        """False: a peer is known by its SPIFFE ID, and its certificate need not name a host. True for web servers."""
        return self.role.checks_hostname

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        if bool(value) != self.role.checks_hostname:
            known_by = "host name" if self.role.checks_hostname else "SPIFFE ID and no host name"
            raise ContextSettingError(f"this context checks the peer's {known_by}, which cannot be changed")

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """What this context's role asks of the peer; cannot be changed."""
        return self.role.verify_mode

    @verify_mode.setter
    def verify_mode(self, value: int) -> None:
        if value != self.role.verify_mode:
            raise ContextSettingError(
                f"this context is made to verify with {self.role.verify_mode.name}, which cannot be changed to "
                f"{ssl.VerifyMode(value).name}: make the context that does what you want"
            )

    @property
    def num_tickets(self) -> int:
        """None: a ticket would resume a session without verifying the peer again. One, where a server resumes."""
        return int(self._settings.resumption and self.role.server_side)

    @num_tickets.setter
    def num_tickets(self, value: int) -> None:
        if value != self.num_tickets:
            raise ContextSettingError("a SPIFFE context issues no session tickets, or one where it resumes sessions")

    @property
    def post_handshake_auth(self) -> bool:
        """False: a certificate that arrives later would arrive behind the verdict."""
        return False

    @post_handshake_auth.setter
    def post_handshake_auth(self, value: bool) -> None:
        if value:
            raise ContextSettingError("peers are verified in the handshake, never after it")

    def load_cert_chain(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refuse: the certificate is the source's SVID."""
        raise ContextSettingError("a SPIFFE context presents the SVID of its source; it takes no certificate files")

    def set_psk_client_callback(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refuse: a pre-shared key comes without a certificate."""
        raise ContextSettingError("a SPIFFE context verifies certificates; it takes no pre-shared keys")

    set_psk_server_callback = set_psk_client_callback

    def load_verify_locations(self, *_args: Any, **_options: Any) -> None:
        """Ignore: requests loads the web's authorities into each context it is given."""
        logger.debug(_NO_OTHER_TRUST, "load_verify_locations()")

    def load_default_certs(self, *_args: Any, **_options: Any) -> None:
        """Ignore: as `load_verify_locations`."""
        logger.debug(_NO_OTHER_TRUST, "load_default_certs()")

    def set_default_verify_paths(self) -> None:
        """Ignore: as `load_verify_locations`."""
        logger.debug(_NO_OTHER_TRUST, "set_default_verify_paths()")

    # --- what can be asked of the trust store: the newest one answers -----------------------------------------------

    def get_ca_certs(self, binary_form: bool = False) -> Any:
        """The authorities trusted now."""
        return self._generation().inner.get_ca_certs(binary_form)

    def cert_store_stats(self) -> dict[str, int]:
        """How many authorities are trusted now."""
        return self._generation().inner.cert_store_stats()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SpiffeSSLContext holds a live identity and is not pickled; make one in each process")

    def __repr__(self) -> str:
        return f"<SpiffeSSLContext {self.role} peer={self.role.peer.value!r} rejections={self.rejections}>"

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._verifier.renew_lock()


_CONTEXTS: weakref.WeakSet[SpiffeSSLContext] = weakref.WeakSet()


def all_contexts() -> list[SpiffeSSLContext]:
    """Every context of the process. For a forked child, where no other thread changes them meanwhile."""
    return list(_CONTEXTS)
