"""The verdict on a peer: who it is, by SPIFFE's rules, and whether the authorizer accepts it; and who hears of it."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
import weakref
from _ssl import ENCODING_DER
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.authz import Authorizer, authorize, not_, unsafe_authorize_any
from authsec_sdk.errors import InvalidX509SVIDError, PeerCredentialError, SpiffeError, UntrustedPeerError
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, verify_chain, x509_svid_id
from authsec_sdk.telemetry import HandshakeCompleted, Rejection, tell
from authsec_sdk.tls.connection import end_connection
from authsec_sdk.tls.errors import PeerVerificationError
from authsec_sdk.tls.generation import Generation
from authsec_sdk.tls.generations import Generations
from authsec_sdk.tls.limits import TokenBucket
from authsec_sdk.tls.live import LifetimeGuard, LiveChecks
from authsec_sdk.tls.proof import Proof, expires_at, still_proves
from authsec_sdk.tls.resumption import TicketWait
from authsec_sdk.tls.role import PeerCertificate, Role

__all__ = ["PeerVerifier", "RawTLS", "Rejection", "RejectionHook"]

logger = logging.getLogger(__name__)

_LOG_LINES_PER_SECOND: Final = 10.0
_LOG_BURST: Final = 100.0
_NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_SIGNATURE_FAILURE: Final = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE
_NO_LIVE_CHECKS: Final = LiveChecks()


class RawTLS(Protocol):
    """OpenSSL's own connection object, as CPython wraps it (`_ssl._SSLSocket`): what we use of it."""

    context: ssl.SSLContext
    session_reused: bool
    server_hostname: str | None

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
        self,
        generations: Generations,
        role: Role,
        authorizer: Authorizer | None,
        on_rejected: RejectionHook | None,
        live: LiveChecks = _NO_LIVE_CHECKS,
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
        self._live = live
        self.bounds_lifetime = live.bounds_lifetime
        self.rechecks = 0  # how many were begun
        if live.recheck:
            generations.after_each_update(self.recheck)

    @property
    def rejections(self) -> int:
        """How many peers were refused so far."""
        return self._rejections

    def verify(self, raw: RawTLS, generation: Generation, begun: float, *, rechecked: bool = False) -> Proof | None:
        """Return who a peer is whose handshake OpenSSL has just completed; None if it was not asked or gave no ID.

        Judged by the bundles the handshake began with, since both sides cannot rotate at the same instant; and by the
        newest ones too if it took long, so that nobody keeps a removed root alive by not finishing, or if live
        connections are rechecked anyway, or were (`rechecked`) since it began.

        Raises:
            PeerVerificationError: it is refused, or anything at all went wrong in judging it.
        """
        try:
            proof: Proof | None
            resumed = raw.session_reused
            if resumed and generation.leaves is None:
                raise UntrustedPeerError("the TLS session was resumed, so nothing proves who the peer is now")
            if raw.version() != "TLSv1.3" and not generation.settings.allows_tls12:
                raise UntrustedPeerError("TLS 1.2 was agreed on before an SNI callback chose a context for 1.3")
            if resumed:
                proof = self._resumed(raw, generation)
            elif self._verifies_chain:
                chain = tuple(
                    [certificate.public_bytes(ENCODING_DER) for certificate in raw.get_verified_chain() or ()]
                )
                proof = generation.proven.get(chain) or self._prove(raw, chain, generation)
                if proof is not None:
                    if generation.leaves is not None:
                        generation.leaves.remember(proof)
                    if rechecked or self._live.recheck or time.monotonic() - begun > self._handshake_age:
                        still_proves(proof, self._generations.newest_bundles(), time.time())
            elif self._role.peer is PeerCertificate.UNVERIFIED:
                proof = Proof(x509_svid_id(_leaf(raw)))
            elif self._role.peer is PeerCertificate.WEB and not raw.get_verified_chain():
                raise UntrustedPeerError("OpenSSL verified no chain: nothing proves which host the peer is")
            else:
                proof = None
            if proof is not None:
                authorize(self._authorizer, proof.peer)
            return proof
        except Exception as error:
            raise self._refuse(_readable_id(raw), _reason(error), generation) from error

    def accepted(self, peer: SpiffeID | None, generation: Generation, begun: float) -> None:
        """Tell the source's observer, if there is one, of a connection that is open now. Raises nothing."""
        observer = self._generations.observer
        if observer is not None:
            own = generation.svid.id if isinstance(generation.svid, X509SVID) else None
            seconds = time.monotonic() - begun
            tell(observer, HandshakeCompleted(str(self._role), peer, own, generation.number, seconds))

    def guarded(self, raw: RawTLS, owner: Any, generation: Generation) -> Any:
        """Return what an accepted connection works through where a context asked for more than OpenSSL's own object.

        That is a guard for a lifetime that is bounded, and one for a client that waits for a ticket.
        """
        through: Any = raw
        live = self._live
        if self.bounds_lifetime:
            chain = () if owner._proof is None else owner._proof.chain
            expires_in = expires_at(chain) - time.time() if chain else None
            dice = random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, hides nothing
            lifetime = live.lifetime(time.monotonic(), expires_in=expires_in, dice=dice)
            owner._drain_at = lifetime.drain_at
            through = LifetimeGuard(through, owner, lifetime.end_at, end_connection)
        if generation.sessions is not None:
            through = TicketWait(raw, through, weakref.ref(owner), generation.sessions, raw.server_hostname)
        return through

    def recheck(self) -> int:
        """Judge the peer of every open connection again: by the newest bundles, and by the authorizer as it is now.

        Those which are not accepted any more end; each is counted, logged and told to the hook as a refusal. Returns
        how many. Dates are not checked. A handshake under way is rechecked when it ends.

        Raises:
            IdentityUnavailableError: the source is closed, or has no bundles yet; every connection goes on.
        """
        with self._lock:
            self.rechecks += 1
        newest = self._generations.newest_bundles() if self._verifies_chain else None
        verdicts: dict[int, SpiffeError | None] = {}  # many connections of one peer share a proof
        ended = 0
        for generation in self._generations.alive():
            for connection in generation.connections():
                proof = connection._proof
                if proof is None or connection._generation is not generation:
                    continue
                if id(proof) not in verdicts:
                    verdicts[id(proof)] = self._why_not(proof, newest)
                reason = verdicts[id(proof)]
                if reason is not None:
                    end_connection(connection, f"the peer is not accepted any more: {reason}")
                    self._refuse(proof.peer, reason, generation)
                    ended += 1
        return ended

    def _why_not(self, proof: Proof, newest: BundleSet[X509Bundle] | None) -> SpiffeError | None:
        try:
            if newest is not None:
                still_proves(proof, newest, time.time())
            authorize(self._authorizer, proof.peer)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the peer is not accepted
            return _reason(error)
        return None

    def refused_by_openssl(
        self, raw: RawTLS, error: ssl.SSLError, generation: Generation
    ) -> PeerVerificationError | None:
        """Turn OpenSSL's refusal of the peer into ours; None if `error` is about something else."""
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"OpenSSL refuses the chain: {error.verify_message} (verify_code={error.verify_code})"
            if error.verify_code == _SIGNATURE_FAILURE:
                text += "; it is forged, or two authorities of one name hide each other"
            text += self._hint(generation)
            refusal = self._refuse(_claimed_id(raw), UntrustedPeerError(text), generation)
            refusal.verify_code, refusal.verify_message = error.verify_code, error.verify_message
            return refusal
        if error.reason == _NO_CERTIFICATE:
            return self._refuse(None, UntrustedPeerError("the peer presented no certificate"), generation)
        return None

    def _resumed(self, raw: RawTLS, generation: Generation) -> Proof | None:
        """Return who the peer of a resumed session is, judged anew: see `resumption`."""
        if self._role.peer is PeerCertificate.NOT_ASKED:
            return None
        leaf = raw.getpeercert(True)
        if leaf is None and self._role.peer is PeerCertificate.REQUESTED:
            return None
        if leaf is None or generation.leaves is None:
            raise UntrustedPeerError("the TLS session was resumed, and holds no certificate of the peer")
        return generation.leaves.judge(leaf, generation.plan.bundles, self._generations.newest_bundles(), time.time())

    def _prove(self, raw: RawTLS, chain: tuple[bytes, ...], generation: Generation) -> Proof | None:
        """Return whom a chain proves which this generation has not seen before."""
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
        if self._role.checks_hostname:
            return "; trusted are authorities of the web PKI, for the host name asked for"
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
    prove: Callable[[tuple[bytes, ...]], Proof],
    bundles: BundleSet[X509Bundle],
) -> Proof:
    """Return whom a verified chain proves by the bundle of its own domain, or else the chain the peer sent.

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
            peer = verify_chain(sent, bundles, at=datetime.now(UTC))
        except PeerCredentialError:
            raise error from None
        return Proof(peer, tuple(each.public_bytes(Encoding.DER) for each in sent))


def _leaf(raw: RawTLS) -> x509.Certificate:
    der = raw.getpeercert(True)
    if der is None:
        raise UntrustedPeerError("the peer presented no certificate")
    return x509.load_der_x509_certificate(der)


def _readable_id(raw: RawTLS) -> SpiffeID | None:
    """Read the ID of a refused peer, as far as that goes."""
    try:
        return _named(_leaf(raw))
    except Exception:  # noqa: BLE001 - it is only for the log, and the certificate is the peer's
        return None


def _claimed_id(raw: RawTLS) -> SpiffeID | None:
    """Read the ID in a chain that OpenSSL refused. It keeps that of a server; a client's is gone, and is None."""
    try:
        sent = raw.get_unverified_chain()
        return _named(x509.load_der_x509_certificate(sent[0].public_bytes(ENCODING_DER))) if sent else None
    except Exception:  # noqa: BLE001 - as above
        return None


def _named(leaf: x509.Certificate) -> SpiffeID:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return SpiffeID.parse(names.get_values_for_type(x509.UniformResourceIdentifier)[0])


def _reason(error: Exception) -> SpiffeError:
    if isinstance(error, SpiffeError):
        return error
    wrapped = InvalidX509SVIDError(f"the peer could not be judged: {type(error).__name__}: {printable(error, 300)}")
    wrapped.__cause__ = error
    return wrapped
