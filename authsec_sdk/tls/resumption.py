"""Session resumption inside one generation, where a context was asked for it: what is kept, what is judged again.

Off by default. OpenSSL verifies nobody when a session is resumed, so the verdict here does: the leaf in the session
must have been proven in this very generation or be proven now, every certificate must still be valid, the newest
bundles must lead to it, and the authorizer is asked again (by `PeerVerifier`). Tickets of another generation mean
nothing to OpenSSL, whose ticket keys belong to one inner context: the handshake is then whole. Decision 19 has the
attacks.
"""

from __future__ import annotations

from typing import Any, Final

from authsec_sdk.spiffe import BundleSet, X509Bundle
from authsec_sdk.tls.connection import hand_on
from authsec_sdk.tls.proof import Proof, check_dates, prove_leaf, still_proves

__all__ = ["ProvenLeaves", "Sessions", "TicketWait"]

_LEAVES_KEPT: Final = 4096
_SIGNERS_KEPT: Final = 64
_SESSIONS_KEPT: Final = 256
_READS_WAITED: Final = 4


class ProvenLeaves:
    """Who was proven in full handshakes of one generation, by leaf. Only what was proven is remembered.

    Safe among threads, by what a dict of CPython promises: at worst a leaf is proven twice.
    """

    def __init__(self) -> None:
        self._proofs: dict[bytes, Proof] = {}
        self._signers: dict[bytes, bytes] = {}

    def remember(self, proof: Proof) -> None:
        """Take note of what a full handshake proved."""
        for signer in proof.chain[1:]:
            if len(self._signers) < _SIGNERS_KEPT:
                self._signers.setdefault(signer, signer)
        shared = (proof.chain[0], *(self._signers.get(signer, signer) for signer in proof.chain[1:]))
        while len(self._proofs) >= _LEAVES_KEPT:
            self._proofs.pop(next(iter(self._proofs), b""), None)
        self._proofs[proof.chain[0]] = Proof(proof.peer, shared)

    def judge(self, leaf: bytes, bundles: BundleSet[X509Bundle], newest: BundleSet[X509Bundle], now: float) -> Proof:
        """Return who the leaf of a resumed session proves: `bundles` are the generation's.

        Raises:
            PeerCredentialError: it proves nobody, or not any more.
        """
        proof = self._proofs.get(leaf)
        if proof is None:  # forgotten, or its own full handshake was refused
            proof = prove_leaf(leaf, tuple(self._signers), bundles, now)
            self.remember(proof)
        check_dates(proof.chain, now)
        still_proves(proof, newest, now)
        return proof


class Sessions:
    """A client's sessions of one generation, by the server name they were made for; each is used once."""

    def __init__(self) -> None:
        self._by_name: dict[str | None, Any] = {}

    def take(self, name: str | None) -> Any:
        """Return a session for a server and forget it (RFC 8446, appendix C.4); None if there is none."""
        return self._by_name.pop(name, None)

    def put(self, name: str | None, session: Any) -> None:
        """Keep a session."""
        while len(self._by_name) >= _SESSIONS_KEPT:
            self._by_name.pop(next(iter(self._by_name), None), None)
        self._by_name[name] = session

    def clear(self) -> None:
        """Forget all: a forked child is not to go on as its parent."""
        self._by_name = {}


class TicketWait:
    """Stands before OpenSSL's object of a client until a ticket came in, which in TLS 1.3 is with the first data."""

    __slots__ = ("_name", "_next", "_owner", "_raw", "_reads", "_sessions")

    def __init__(self, raw: Any, following: Any, owner: Any, sessions: Sessions, name: str | None) -> None:
        self._raw = raw
        self._next = following
        self._owner = owner  # a weak reference
        self._sessions = sessions
        self._name = name
        self._reads = 0

    def read(self, *args: Any) -> Any:
        """Read; keep the ticket that came along, and step aside."""
        data = self._next.read(*args)
        self._reads += 1
        session = self._raw.session
        kept = session is not None and session.has_ticket
        if kept:
            self._sessions.put(self._name, session)
        if kept or self._reads >= _READS_WAITED:
            owner = self._owner()
            if owner is not None and owner._sslobj is self:
                hand_on(owner, self._next)
        return data

    def write(self, data: Any, /) -> int:
        """Write."""
        written: int = self._next.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._next, name)
