"""The verdict on a peer: who it is, by SPIFFE's rules, and whether the authorizer accepts it; and who hears of it."""

from __future__ import annotations

import functools
import logging
import ssl
import threading
import time
from _ssl import ENCODING_DER
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

from cryptography import x509

from authsec_sdk.authz import Authorizer, authorize, not_, unsafe_authorize_any
from authsec_sdk.errors import InvalidX509SVIDError, PeerCredentialError, SpiffeError, UntrustedPeerError
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Bundle, verify_chain, verify_membership, x509_svid_id
from authsec_sdk.telemetry import HandshakeCompleted, Rejection, tell
from authsec_sdk.tls.errors import PeerVerificationError
from authsec_sdk.tls.generation import Generation
from authsec_sdk.tls.generations import Generations
from authsec_sdk.tls.limits import TokenBucket
from authsec_sdk.tls.role import PeerCertificate, Role

__all__ = ["PeerVerifier", "RawTLS", "Rejection", "RejectionHook"]

logger = logging.getLogger(__name__)

_LOG_LINES_PER_SECOND: Final = 10.0
_LOG_BURST: Final = 100.0
_NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_SIGNATURE_FAILURE: Final = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE


class RawTLS(Protocol):
    """OpenSSL's own connection object, as CPython wraps it (`_ssl._SSLSocket`): what we use of it."""

    context: ssl.SSLContext
    session_reused: bool

    def do_handshake(self) -> None:
        """Go on with the handshake."""
        ...

    def get_verified_chain(self) -> list[Any] | None:
        """The chain that OpenSSL built and verified, leaf first; None if there is none."""
        ...

    def get_unverified_chain(self) -> list[Any] | None:
        """The chain that the peer sent, leaf first; None if there is none."""
        ...

    def version(self) -> str | None:
        """The protocol version agreed on."""
        ...

    def getpeercert(self, binary_form: bool, /) -> bytes | None:
        """The peer's certificate as DER."""
        ...

    def read(self, length: int, buffer: Any = ..., /) -> Any:
        """Take decrypted bytes."""
        ...

    def write(self, data: Any, /) -> int:
        """Send bytes encrypted."""
        ...


RejectionHook: TypeAlias = Callable[[Rejection], None]


class PeerVerifier:
    """Judges peers for one context and its views, counts those refused, and tells the log and a hook about them."""

    def __init__(
        self, generations: Generations, role: Role, authorizer: Authorizer | None, on_rejected: RejectionHook | None
    ) -> None:
        self._generations = generations
        self._role = role
        self._authorizer = authorizer or not_(unsafe_authorize_any())  # where nobody is asked, nobody is accepted
        self._on_rejected = on_rejected
        self._verifies_chain = role.verifies_chain
        self._handshake_age = generations.limits.handshake_age
        self._lock = threading.Lock()
        self._log_bucket = TokenBucket(_LOG_LINES_PER_SECOND, _LOG_BURST)
        self._unlogged = 0
        self._rejections = 0

    @property
    def rejections(self) -> int:
        """How many peers were refused so far."""
        return self._rejections

    def verify(self, raw: RawTLS, generation: Generation, begun: float) -> SpiffeID | None:
        """Return the ID of a peer whose handshake OpenSSL has just completed; None if it was not asked or gave none.

        Judged by the bundles the handshake began with, since both sides cannot rotate at the same instant; and by the
        newest ones too if it took long, so that nobody keeps a removed root alive by not finishing.

        Raises:
            PeerVerificationError: it is refused, or anything at all went wrong in judging it.
        """
        try:
            if raw.session_reused:
                raise UntrustedPeerError("the TLS session was resumed, so nothing proves who the peer is now")
            if raw.version() != "TLSv1.3" and not generation.settings.allows_tls12:
                raise UntrustedPeerError("TLS 1.2 was agreed on before an SNI callback chose a context for 1.3")
            if self._verifies_chain:
                chain = tuple(
                    [certificate.public_bytes(ENCODING_DER) for certificate in raw.get_verified_chain() or ()]
                )
                peer = generation.proven.get(chain) or self._prove(raw, chain, generation)
                if time.monotonic() - begun > self._handshake_age and peer is not None:
                    newest = self._generations.newest_bundles()
                    _prove(raw, chain, functools.partial(verify_membership, bundles=newest), newest)
            else:
                peer = None if self._role.peer is PeerCertificate.NOT_ASKED else x509_svid_id(_leaf(raw))
            if peer is not None:
                authorize(self._authorizer, peer)
            return peer
        except Exception as error:
            raise self._refuse(_readable_id(raw), _reason(error), generation) from error

    def accepted(self, peer: SpiffeID | None, generation: Generation, begun: float) -> None:
        """Tell the source's observer, if there is one, of a connection that is open now. Raises nothing."""
        observer = self._generations.observer
        if observer is not None:
            own = None if generation.svid is None else generation.svid.id
            seconds = time.monotonic() - begun
            tell(observer, HandshakeCompleted(str(self._role), peer, own, generation.number, seconds))

    def refused_by_openssl(self, error: ssl.SSLError, generation: Generation) -> PeerVerificationError | None:
        """Turn OpenSSL's refusal of the peer into ours; None if `error` is about something else."""
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"OpenSSL refuses the chain: {error.verify_message} (verify_code={error.verify_code})"
            if error.verify_code == _SIGNATURE_FAILURE:
                text += "; it is forged, or two authorities of one name hide each other"
            text += self._hint(generation)
            refusal = self._refuse(None, UntrustedPeerError(text), generation)
            refusal.verify_code, refusal.verify_message = error.verify_code, error.verify_message
            return refusal
        if error.reason == _NO_CERTIFICATE:
            return self._refuse(None, UntrustedPeerError("the peer presented no certificate"), generation)
        return None

    def _prove(self, raw: RawTLS, chain: tuple[bytes, ...], generation: Generation) -> SpiffeID | None:
        """Return the ID that a chain proves which this generation has not seen before."""
        if not chain and raw.getpeercert(True) is None:
            if self._role.peer is PeerCertificate.REQUESTED:
                return None
            raise UntrustedPeerError("the peer presented no certificate")
        return _prove(raw, chain, generation.prove, generation.plan.bundles)

    def _refuse(self, spiffe_id: SpiffeID | None, reason: SpiffeError, generation: Generation) -> PeerVerificationError:
        rejection = Rejection(spiffe_id, reason, str(self._role), generation.number)
        with self._lock:
            self._rejections += 1
            logged = self._log_bucket.take(time.monotonic())
            unlogged = self._unlogged
            self._unlogged = 0 if logged else unlogged + 1
        if logged:
            logger.warning(
                "Peer refused: %s role=%s spiffe_id=%s generation=%d%s",
                printable(reason),
                rejection.role,
                spiffe_id,
                generation.number,
                f" unlogged={unlogged}" if unlogged else "",
            )
        if self._on_rejected is not None:
            try:
                self._on_rejected(rejection)
            except Exception:
                logger.exception("The hook on_rejected failed; the peer stays refused")
        tell(self._generations.observer, rejection)
        return PeerVerificationError(reason, spiffe_id)

    def _hint(self, generation: Generation) -> str:
        """Say what may be behind a chain that leads nowhere, which OpenSSL does not show us."""
        domains = ", ".join(sorted(str(td) for td in generation.plan.bundles)) or "none"
        aside = f"; set aside: {len(generation.plan.set_aside)}" if generation.plan.set_aside else ""
        return f"; trusted are authorities of: {domains}{aside}"

    def renew_lock(self) -> None:
        """Get a free lock, in a forked child."""
        self._lock = threading.Lock()


def printable(value: object, limit: int = 1000) -> str:
    """Return a text fit for one log line, whatever a peer put into its certificate."""
    text = str(value)
    safe = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= limit else f"{safe[:limit]}…"


def _prove(
    raw: RawTLS,
    chain: tuple[bytes, ...],
    prove: Callable[[tuple[bytes, ...]], SpiffeID],
    bundles: BundleSet[X509Bundle],
) -> SpiffeID:
    """Return the ID that a verified chain proves by the bundle of its own domain, or else the chain the peer sent.

    OpenSSL ends a chain at the first authority it trusts. That may be another domain's although the peer's own would
    come next: a federated domain can publish a copy of somebody's intermediate. So before such a peer is refused, what
    it sent is verified once more, with `cryptography` and against its own domain alone.
    """
    try:
        return prove(chain)
    except UntrustedPeerError as error:
        if len(chain) < 2:
            raise
        sent = [
            x509.load_der_x509_certificate(certificate.public_bytes(ENCODING_DER))
            for certificate in raw.get_unverified_chain() or ()
        ]
        try:
            return verify_chain(sent, bundles, at=datetime.now(UTC))
        except PeerCredentialError:
            raise error from None


def _leaf(raw: RawTLS) -> x509.Certificate:
    der = raw.getpeercert(True)
    if der is None:
        raise UntrustedPeerError("the peer presented no certificate")
    return x509.load_der_x509_certificate(der)


def _readable_id(raw: RawTLS) -> SpiffeID | None:
    """Read the ID of a refused peer, as far as that goes."""
    try:
        names = _leaf(raw).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return SpiffeID.parse(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
    except Exception:  # noqa: BLE001 - it is only for the log, and the certificate is the peer's
        return None


def _reason(error: Exception) -> SpiffeError:
    if isinstance(error, SpiffeError):
        return error
    wrapped = InvalidX509SVIDError(f"the peer could not be judged: {type(error).__name__}: {printable(error, 300)}")
    wrapped.__cause__ = error
    return wrapped
