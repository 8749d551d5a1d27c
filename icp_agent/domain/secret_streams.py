"""What is due on a stream of secrets, by either of xDS's protocols: the one that tells all, and that of changes."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import CallerError
from icp_agent.domain.identity_cache import WorkloadView
from icp_agent.domain.secrets import (
    CertificateSecret,
    Secret,
    SecretSettings,
    Selection,
    Wish,
    select,
    wants_certificates,
)

MAXIMUM_NAMES: Final = 1000
"""How many names one stream may ask for; who has more identities asks for everything."""

_EVERYTHING: Final = "*"


class UnknownSecretsError(CallerError):
    """Names were asked for that are none of this workload's."""

    def __init__(self, names: Iterable[str]) -> None:
        listed = " ".join('"' + name.replace("\\", r"\\").replace('"', r"\"") + '"' for name in sorted(names))
        super().__init__(f"workload is not authorized for the requested identities [{listed}]")


class TooManyNamesError(CallerError):
    """One stream asks for more names than `MAXIMUM_NAMES`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What both protocols say in a request. `refused` is why the proxy did not take the response with this nonce.

    `apart` is None where the request does not say what the proxy is; then what was said before holds.
    """

    nonce: str = ""
    type_url: str = ""
    refused: str | None = None
    apart: bool | None = None


@dataclass(frozen=True, slots=True)
class WholeRequest(Request):
    """State of the world: all names that are wanted from now on; none stand for everything."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeltaRequest(Request):
    """Incremental: names to add and to take away, and in a first request what the proxy has, version by name."""

    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    known: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What to send. `versions` belong to `secrets`; `removed` are names of which nothing is left."""

    version: str
    nonce: str
    type_url: str
    secrets: tuple[Secret, ...]
    versions: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class SecretStream:
    """One stream, as far as both protocols agree. It does no IO: whoever holds it tells it what came, and sends."""

    def __init__(self, settings: SecretSettings, make_nonce: Callable[[], str]) -> None:
        self._names = settings.names
        self._plain = settings.disable_spiffe_cert_validation
        self._make_nonce = make_nonce
        self._view: WorkloadView | None = None
        self._version = 0
        self._nonce = ""
        self._type_url = ""
        self._apart = not self._plain
        self.wish = Wish()

    @property
    def wants_certificates(self) -> bool:
        """Whether SVIDs are worth waiting for."""
        return wants_certificates(self.wish, self._names)

    def updated(self, view: WorkloadView) -> None:
        """Note what the workload may know from now on."""
        self._view = view
        self._version += 1

    def _note(self, request: Request) -> None:
        self._type_url = request.type_url or self._type_url
        if request.apart is not None:
            self._apart = request.apart and not self._plain

    def _wish_for(self, wish: Wish) -> None:
        before, self.wish = self.wants_certificates, wish
        if self.wants_certificates and not before:
            self._view = None  # made for bundles alone: its identities may be old, or not there yet

    def _selected(self) -> Selection | None:
        return None if self._view is None else select(self._view, self.wish, self._names)

    def _next(self, secrets: tuple[Secret, ...], **more: tuple[str, ...]) -> Update:
        self._nonce = self._make_nonce()
        return Update(str(self._version), self._nonce, self._type_url, secrets, **more)


class WholeStream(SecretStream):
    """StreamSecrets: each response is all of what was asked for; it goes out when that changed, or the names did."""

    _sent: tuple[Secret, ...] | None = None
    _asked = False

    def take(self, request: WholeRequest) -> None:
        """Note a request; one that answers another response than the last is ignored.

        Raises:
            TooManyNamesError: there are too many names in it.
        """
        if self._nonce and request.nonce != self._nonce:
            return
        self._note(request)
        names = frozenset(name for name in request.names if name)
        _check_number(names)
        wish = Wish(names, everything=not names, apart=self._apart)
        if wish != self.wish or not self._asked:
            self._sent, self._asked = None, True
            self._wish_for(wish)

    def due(self) -> Update | None:
        """What to send now, None if nothing.

        Raises:
            UnknownSecretsError, AllBundlesError: the wish cannot be met.
        """
        selection = self._selected()
        if selection is None or not self._asked:
            return None
        if selection.unmatched:
            raise UnknownSecretsError(selection.unmatched)
        if selection.secrets == self._sent:
            return None
        self._sent = selection.secrets
        return self._next(selection.secrets)


class DeltaStream(SecretStream):
    """DeltaSecrets: each response is what the proxy does not have in this version, and what it is to forget.

    A name that is no secret of the workload's when it is asked for is refused, as on the other stream; one that was
    a secret is told as removed, and told again when it comes back. Versions are made of what is public in a secret:
    they are the same from every agent, so a proxy that comes back with what it has is sent only what changed.
    """

    def __init__(self, settings: SecretSettings, make_nonce: Callable[[], str]) -> None:
        super().__init__(settings, make_nonce)
        self._held: dict[str, str] = {}
        self._gone: set[str] = set()
        self._begun = False

    def take(self, request: DeltaRequest) -> None:
        """Note a request. What it subscribes to counts whichever response it answers: it is said only once.

        Raises:
            TooManyNamesError: the stream asks for too many names by now.
        """
        self._note(request)
        added, dropped = set(request.subscribe), set(request.unsubscribe)
        names = (self.wish.names | added) - dropped - {_EVERYTHING}
        everything = (self.wish.everything or _EVERYTHING in added) and _EVERYTHING not in dropped
        if not self._begun:
            self._begun = True
            everything = everything or not added
            self._held = dict(request.known or {})
            _check_number(self._held)
        else:
            # Asked for anew: to be sent, whatever the proxy had.
            for name in added:
                self._held.pop(name, None)
                self._gone.discard(name)
        for name in dropped:
            self._held.pop(name, None)
            self._gone.discard(name)
        _check_number(names)
        self._wish_for(Wish(frozenset(names), everything, self._apart))

    def due(self) -> Update | None:
        """What to send now, None if nothing.

        Raises:
            UnknownSecretsError, AllBundlesError: the wish cannot be met.
        """
        selection = self._selected()
        if selection is None:
            return None
        versions = {secret.name: version_of(secret) for secret in selection.secrets}
        removed = {name for name in self._held.keys() - versions.keys() if self._wants(name)}
        unknown = selection.unmatched - removed - self._gone
        if unknown:
            raise UnknownSecretsError(unknown)
        changed = [secret for secret in selection.secrets if self._held.get(secret.name) != versions[secret.name]]
        if not changed and not removed:
            return None
        self._held = versions
        self._gone = (self._gone | removed) - versions.keys()
        return self._next(
            tuple(changed),
            versions=tuple(versions[secret.name] for secret in changed),
            removed=tuple(sorted(removed)),
        )

    def _wants(self, name: str) -> bool:
        return self.wish.everything or name in self.wish.names


def version_of(secret: Secret) -> str:
    """A text that is the same for secrets of the same content. Private keys have no part in it."""
    if isinstance(secret, CertificateSecret):
        parts = [b"certificate", *secret.svid.chain_der()]
    else:
        parts = [b"apart" if secret.apart else b"together"]
        parts += [part for bundle in secret.bundles for part in (str(bundle.trust_domain).encode(), bundle.to_der())]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _check_number(names: Sized) -> None:
    if len(names) > MAXIMUM_NAMES:
        raise TooManyNamesError(f"at most {MAXIMUM_NAMES} names in one stream")
