"""Who calls a grpcio server: its credentials from a source, and the verdict on each call's caller.

grpcio's core takes certificates and roots anew for each handshake, but merges the roots of all trust domains and lets
nobody refuse there. So what it accepted is verified once more when a call comes, per trust domain, and authorized.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.errors import (
    CallerError,
    InvalidX509SVIDError,
    NoIdentityError,
    PeerCredentialError,
    PeerNotAuthorizedError,
    SpiffeError,
    UntrustedPeerError,
)
from authsec_sdk.integrations._grpc_methods import MethodPolicy
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Bundle, X509Context, X509ContextSource, verify_chain
from authsec_sdk.telemetry import observer_of, tell
from authsec_sdk.tls import Rejection, RejectionHook
from authsec_sdk.tls.limits import TLSLimits, TokenBucket
from authsec_sdk.tls.peer import printable
from authsec_sdk.tls.trust import Seniority, plan_trust

__all__ = ["CallRefused", "CallerVerifier", "CredentialsFollower", "peer_spiffe_id", "remember_peer"]

logger = logging.getLogger(__name__)

_PROVEN_KEPT: Final = 1024
_LOG_LINES_PER_SECOND: Final = 10.0
_LOG_BURST: Final = 100.0

AuthContext = Mapping[str, Sequence[bytes]]
_Credential = tuple[bytes, bytes]  # the leaf and what came with it, as PEM
_Proven = tuple[SpiffeID, datetime]  # whose it is, and when the first of its certificates expires
_peer: contextvars.ContextVar[tuple[bytes, SpiffeID]] = contextvars.ContextVar("authsec_grpc_peer")


def peer_spiffe_id(context: Any) -> SpiffeID:
    """Return the caller's SPIFFE ID in a handler, as this server verified it. `context` is the handler's.

    To be asked where the handler runs; a thread that a handler starts does not know.

    Raises:
        CallerError: the call did not come through a server made by `mtls_server` or `mtls_aio_server`.
    """
    known = _peer.get(None)
    if known is None or known[0] != _credential(context.auth_context())[0]:
        raise CallerError(
            "this call carries no verified SPIFFE ID: serve with mtls_server() or mtls_aio_server(), and ask in the "
            "handler itself, not in a thread it started"
        )
    return known[1]


def remember_peer(auth_context: AuthContext, peer: SpiffeID) -> None:
    """Let `peer_spiffe_id` find who was verified, as long as this call runs."""
    _peer.set((auth_context["x509_pem_cert"][0], peer))


class CallRefused(Exception):
    """What a refused caller is told: a status, and nothing about the policy."""

    def __init__(self, code: Any, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class CredentialsFollower:
    """Server credentials which follow a source: what a handshake uses is the newest.

    Raises:
        NotReadyError, SourceClosedError, NoIdentityError: from `credentials`, where the source has no identity yet.
    """

    def __init__(self, source: X509ContextSource) -> None:
        self._source = source
        self._seniority = Seniority()
        self._lock = threading.Lock()
        self._log = PacedLog(logger)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what `grpc.Server.add_secure_port` takes. Clients without a certificate are refused by its core."""
        with self._lock:
            taken = self._source.x509_context  # by this port: each has its own core to keep new
            configuration = self._configuration(taken)

        def fetch() -> Any:
            nonlocal taken
            taken, newer = self._newer(taken)
            return newer

        return grpc.dynamic_ssl_server_credentials(configuration, fetch, require_client_authentication=True)

    def _newer(self, taken: X509Context) -> tuple[X509Context, Any]:
        """Return what is new for the core; it asks before each handshake, in a thread of its own, and keeps the old."""
        try:
            with self._lock:
                newest = self._source.x509_context
                if newest is not taken:
                    return newest, self._configuration(newest)
        except SpiffeError as error:
            self._log.warning("gRPC server goes on with the last good certificate: %s", error)
        except Exception:
            logger.exception("gRPC server goes on with the last good certificate")
        return taken, None

    def _configuration(self, context: X509Context) -> Any:
        svid = context.svid
        plan = plan_trust(
            context.bundles,
            own=svid,
            admitted=None,  # so that a forger gets as far as the verdict, and the operator hears of it
            since=self._seniority.observe(context.bundles),
            limits=TLSLimits(),
        )
        for each in plan.set_aside:
            logger.warning("Not trusted as published: %s", each)
        if not plan.authorities:
            raise NoIdentityError("there are no authorities to verify anybody with")
        return grpc.ssl_server_certificate_configuration(
            [
                (
                    svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
                    b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.certificates),
                )
            ],
            b"".join(certificate.public_bytes(Encoding.PEM) for certificate in plan.authorities),
        )


class _Known:
    """What callers have proven by one set of bundles."""

    def __init__(self, context: X509Context, number: int, proven: dict[_Credential, _Proven]) -> None:
        self.context = context
        self.number = number
        self.proven = proven


class CallerVerifier:
    """The verdict on each call: by the newest bundles and the policy, whenever its connection began.

    The time of the caller's certificate was the handshake's business: a live connection outlasts it. Not so where the
    TLS session was resumed: grpcio's core issues tickets, cannot be told not to, and looks at no certificate again.
    """

    def __init__(self, source: X509ContextSource, policy: MethodPolicy, on_rejected: RejectionHook | None) -> None:
        self._source = source
        self._policy = policy
        self._on_rejected = on_rejected
        self._known: _Known | None = None
        self._lock = threading.Lock()
        self._log_bucket = TokenBucket(_LOG_LINES_PER_SECOND, _LOG_BURST)
        self.rejections = 0

    @property
    def generation(self) -> int | None:
        """Changes when calls that live on are to be admitted again; None where that never happens."""
        return self._policy.generation

    def admit(self, auth_context: AuthContext, method: str) -> SpiffeID:
        """Return the caller's ID, proven and authorized for `method`.

        Raises:
            CallRefused: it is not; or we have no identity, and nothing to verify others with.
        """
        try:
            known = self._newest()
        except Exception as error:
            logger.warning("Call refused, because there is nothing to verify its caller with: %s", error)
            raise CallRefused(grpc.StatusCode.UNAVAILABLE, "the server has no identity now") from error
        peer: SpiffeID | None = None
        try:
            credential = _credential(auth_context)
            peer, ends = known.proven.get(credential) or _prove(credential, known)
            if auth_context.get("ssl_session_reused") != [b"false"] and datetime.now(UTC) > ends:
                raise UntrustedPeerError(f"the TLS session was resumed, and its certificate expired at {ends:%FT%TZ}")
            self._policy.authorize(peer, method)
            return peer
        except PeerNotAuthorizedError as error:
            self._tell(error, peer, method, known)
            raise CallRefused(grpc.StatusCode.PERMISSION_DENIED, "the caller is not authorized") from error
        except Exception as error:
            self._tell(error, peer, method, known)
            raise CallRefused(grpc.StatusCode.UNAUTHENTICATED, "the caller's certificate was refused") from error

    def _newest(self) -> _Known:
        context = self._source.x509_context
        known = self._known
        if known is not None and known.context is context:
            return known
        with self._lock:
            known = self._known
            if known is None:
                self._known = known = _Known(context, 1, {})
            elif known.context is not context:
                same = known.context.bundles == context.bundles
                self._known = known = _Known(context, known.number + 1, known.proven if same else {})
            return known

    def _tell(self, error: Exception, peer: SpiffeID | None, method: str, known: _Known) -> None:
        reason = error if isinstance(error, SpiffeError) else _unjudged(error)
        with self._lock:
            self.rejections += 1
            log = self._log_bucket.take(time.monotonic())
        if log:
            logger.warning(
                "Call refused: %s method=%s spiffe_id=%s generation=%d",
                printable(reason),
                printable(method, 300),
                peer,
                known.number,
            )
        rejection = Rejection(peer, reason, "server", known.number)
        if self._on_rejected is not None:
            try:
                self._on_rejected(rejection)
            except Exception:
                logger.exception("The hook on_rejected failed; the caller stays refused")
        tell(observer_of(self._source), rejection)


def _credential(auth_context: AuthContext) -> _Credential:
    leaf = auth_context.get("x509_pem_cert")
    if auth_context.get("transport_security_type") != [b"ssl"] or not leaf:
        raise UntrustedPeerError("the peer presented no certificate")
    chain = auth_context.get("x509_pem_cert_chain")
    return leaf[0], chain[0] if chain else b""


def _prove(credential: _Credential, known: _Known) -> _Proven:
    bundles: BundleSet[X509Bundle] = known.context.bundles
    leaf, rest = credential
    try:
        chain = [x509.load_pem_x509_certificate(leaf), *(x509.load_pem_x509_certificates(rest) if rest else ())]
        at = min(datetime.now(UTC), chain[0].not_valid_after_utc)
    except PeerCredentialError:
        raise
    except Exception as error:
        raise _unjudged(error) from error
    proven = verify_chain(chain, bundles, at=at), min(each.not_valid_after_utc for each in chain)
    if len(known.proven) >= _PROVEN_KEPT:
        known.proven.clear()
    known.proven[credential] = proven
    return proven


def _unjudged(error: Exception) -> SpiffeError:
    return InvalidX509SVIDError(f"the peer could not be judged: {type(error).__name__}: {printable(error, 300)}")
