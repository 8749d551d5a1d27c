"""A generation: one immutable inner `ssl.SSLContext`, made of one identity and one set of authorities."""

from __future__ import annotations

import ssl
import weakref
from typing import Any, Final

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe import verify_membership
from authsec_sdk.tls.errors import IdentityUnavailableError
from authsec_sdk.tls.inner import InnerContexts, Recipe
from authsec_sdk.tls.keyload import Identity
from authsec_sdk.tls.proof import Proof
from authsec_sdk.tls.resumption import ProvenLeaves, Sessions
from authsec_sdk.tls.role import Role
from authsec_sdk.tls.settings import Settings
from authsec_sdk.tls.trust import TrustPlan
from authsec_sdk.tls.web import WebRoots

__all__ = ["Generation"]

_PROVEN_KEPT: Final = 256


class Generation:
    """What connections that begin now are made with. Never changed; a rotation makes another one.

    `number` counts the generations of a context and its views, from 1. `svid` is what is presented: an SVID, or a
    certificate of the web PKI. `inners` are the source's, `roots` the web's, of a client that knows hosts.

    Raises:
        InvalidX509SVIDError: OpenSSL does not take the SVID.
        ssl.SSLError: it does not take an authority or a setting.
    """

    def __init__(
        self,
        number: int,
        svid: Identity | None,
        plan: TrustPlan,
        settings: Settings,
        role: Role,
        inners: InnerContexts,
        roots: WebRoots | None = None,
    ) -> None:
        self.number = number
        self.svid = svid
        self.plan = plan
        self.settings = settings
        self.role = role
        # Whoever uses this generation, to be found again when it has to end. `Any`: TLS objects and sockets.
        self._connections: set[weakref.ref[Any]] = set()
        # What chains prove, by the bundles of this generation: peers come again, with the chains they had.
        self.proven: dict[tuple[bytes, ...], Proof] = {}
        # For resumption, where it was asked for: who was proven in full, and a client's tickets by server name.
        self.leaves = ProvenLeaves() if settings.resumption else None
        self.sessions = Sessions() if settings.resumption and not role.server_side else None
        self._inner = inners.get(Recipe(svid, plan.authorities, settings, role, roots))
        # For every connection, or None if each needs one of its own: see `context_for_connection`.
        self.shared = None if role.server_side and settings.allows_tls12 else self._inner.context

    def prove(self, verified_chain: tuple[bytes, ...]) -> Proof:
        """Return whom a chain proves, which OpenSSL verified just now; remembered in `proven`.

        Raises:
            PeerCredentialError: it proves none: `verify_membership` says which error means what.
        """
        proof = Proof(verify_membership(verified_chain, self.plan.bundles), verified_chain)
        if len(self.proven) >= _PROVEN_KEPT:
            self.proven.clear()
        self.proven[verified_chain] = proof
        return proof

    def add(self, connection: Any) -> weakref.ref[Any]:
        """Remember a connection as long as it lives, and return the reference by which it is remembered."""
        reference: weakref.ref[Any] = weakref.ref(connection, self._connections.discard)
        self._connections.add(reference)
        return reference

    def connections(self) -> list[Any]:
        """Every connection that was begun with this generation and still lives."""
        while True:
            try:
                return [connection for ref in list(self._connections) if (connection := ref()) is not None]
            except RuntimeError:  # the set changed meanwhile
                continue

    def context_for_connection(self) -> ssl.SSLContext:
        """The inner context for one new connection: the shared one, or one of its own.

        A server that allows TLS 1.2 needs the latter: OpenSSL keeps sessions in their context and Python cannot stop
        it from resuming one by its ID, so a client that tries (Java does) would come without a verified chain and have
        to be refused. In a context of its own no session is known, and the client is verified again.

        Raises:
            IdentityUnavailableError: one of its own could not be built.
        """
        if self.shared is not None:
            return self.shared
        try:
            return self._inner.recipe.build()
        except InvalidX509SVIDError as error:  # no descriptor left, say: the connection fails, the server goes on
            raise IdentityUnavailableError(error) from error

    @property
    def inner(self) -> ssl.SSLContext:
        """The shared inner context. It knows no policy: never hand it to anyone."""
        return self._inner.context
