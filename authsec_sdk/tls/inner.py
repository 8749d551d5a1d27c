"""Inner contexts: how one is made of identity, authorities and settings, and shared by all who need the very same.

An inner context knows no policy, so contexts of one source with different authorizers may use the same one: it takes
20 KiB and 3 to 7 KiB more for each authority, and a millisecond to make at each rotation. Where sessions are resumed
each has its own, since whoever shares an inner context shares its tickets.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.tls.keyload import Identity, load_authorities, load_identity
from authsec_sdk.tls.role import Role
from authsec_sdk.tls.settings import Settings
from authsec_sdk.tls.web import WebRoots

__all__ = ["InnerContext", "InnerContexts", "Recipe", "unloadable"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an inner context is made of."""

    svid: Identity | None
    authorities: tuple[x509.Certificate, ...]
    settings: Settings
    role: Role
    roots: WebRoots | None = None

    def build(self) -> ssl.SSLContext:
        """Make one.

        Raises:
            InvalidX509SVIDError: OpenSSL does not take the SVID.
            ssl.SSLError: it does not take an authority or a setting.
        """
        inner = ssl.SSLContext(self.role.protocol)
        self.settings.apply(inner, self.role)
        callback = self.settings.sni_callback
        if callback is not None and self.role.server_side:
            inner.sni_callback = _facade_only(callback)
        if self.role.verifies_chain:
            load_authorities(inner, _pem_of(self.authorities))
        if self.roots is not None and self.roots.pem:
            load_authorities(inner, self.roots.pem)
        elif self.roots is not None:
            inner.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.svid is not None:
            load_identity(inner, self.svid)
        return inner


class InnerContext:
    """A context that was made, together with its recipe."""

    __slots__ = ("__weakref__", "context", "recipe")

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.context = recipe.build()


_Key: TypeAlias = tuple[object, ...]


class InnerContexts:
    """The inner contexts of one source that are in use. Safe among threads: at worst one is made twice."""

    def __init__(self) -> None:
        self._made: weakref.WeakValueDictionary[_Key, InnerContext] = weakref.WeakValueDictionary()

    def get(self, recipe: Recipe) -> InnerContext:
        """Return the one for a recipe, making it if nobody uses it already.

        Raises:
            InvalidX509SVIDError, ssl.SSLError: as `Recipe.build`.
        """
        if recipe.settings.resumption:
            return InnerContext(recipe)
        # The identity by its address: whoever is found keeps the very same one alive.
        authorities = recipe.authorities if recipe.role.verifies_chain else ()
        key = (id(recipe.svid), authorities, recipe.settings, recipe.role, recipe.roots)
        found = self._made.get(key)
        if found is None:
            found = InnerContext(recipe)
            self._made[key] = found
        return found


def _facade_only(callback: Any) -> Any:
    """Wrap a user's SNI callback so that it gets the connection and its facade, and nothing without a policy."""

    def call(connection: Any, server_name: str | None, _inner: ssl.SSLContext) -> int | None:
        facade = getattr(connection, "_spiffe_context", None)
        if facade is None:  # OpenSSL's bare object, which there is only if ours is gone
            return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR
        answer: int | None = callback(connection, server_name, facade)
        return answer

    return call


@lru_cache(maxsize=16)
def _pem_of(authorities: tuple[x509.Certificate, ...]) -> bytes:
    """Return certificates as one PEM text, remembered: a server of TLS 1.2 needs it for each connection."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in authorities)


def unloadable(authorities: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Find the authorities that OpenSSL does not take, so that the others can be loaded without them."""
    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    failing = []
    for authority in authorities:
        try:
            load_authorities(scratch, authority.public_bytes(Encoding.PEM))
        except ssl.SSLError:
            failing.append(authority)
    return failing
