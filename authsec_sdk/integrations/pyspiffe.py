"""Our sources where py-spiffe's are expected, and py-spiffe's where ours are (extra ``pyspiffe``).

``as_pyspiffe(source)`` gives code written for ``spiffe.X509Source``, such as spiffe-tls, the identity of any source of
ours; ``from_pyspiffe(source)`` gives `authsec_sdk.tls` the identity that a ``spiffe.X509Source`` follows, and
``jwt_bundles_of(source)`` the keys that a ``spiffe.JwtSource`` follows. For the time in which a program uses both.

What holds: each value of py-spiffe is read again by our rules, which are stricter (the key must belong to the leaf,
line feeds are no part of IDs, the chain must be one). What is not checked: what code that takes a ``spiffe.X509Source``
does with it, such as merging the bundles of all trust domains into one store.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import cast

import spiffe
from cryptography import x509
from spiffe.workloadapi.errors import X509SourceError
from spiffe.workloadapi.x509_context import X509Context as PySpiffeX509Context

from authsec_sdk.errors import InvalidX509SVIDError, RetryableError, SourceClosedError, SpiffeError
from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.spiffe import (
    X509SVID,
    BundleSet,
    JWTBundle,
    SpiffeID,
    SVIDPrivateKey,
    TrustDomain,
    X509Bundle,
    X509Context,
    X509ContextHolder,
    X509ContextListener,
    X509ContextSource,
)

__all__ = ["AdaptedX509Source", "PySpiffeSource", "as_pyspiffe", "from_pyspiffe", "jwt_bundles_of"]

_logger = logging.getLogger(__name__)
_JOIN = 5.0


def as_pyspiffe(source: X509ContextSource) -> "AdaptedX509Source":
    """Return a ``spiffe.X509Source`` whose values are those of `source`, always the newest.

    Raises:
        NotReadyError: `source` has no identity yet: wait for it first, as with ``with X509Source() as source``.
        SourceClosedError: it is closed.
    """
    return AdaptedX509Source(source)


def from_pyspiffe(source: "spiffe.X509Source") -> "PySpiffeSource":
    """Return a source for `authsec_sdk.tls` that follows a ``spiffe.X509Source``.

    Raises:
        SpiffeError: what `source` holds now breaks a rule; later such updates are refused, and the last good one kept.
        SourceClosedError: `source` is closed, or died of an error.
    """
    return PySpiffeSource(source)


def jwt_bundles_of(source: "spiffe.JwtSource") -> BundleSet[JWTBundle]:
    """Return the keys a ``spiffe.JwtSource`` knows now, for `JWTSVID.parse_and_validate`, read by our rules.

    Raises:
        InvalidBundleError: a key is of a kind that no JWT-SVID is signed with, such as ``oct``, which py-spiffe takes.
        InvalidTrustDomainError: the name of a trust domain is none.
        JwtSourceError: (py-spiffe's) the source is closed, or died of an error.
    """
    return BundleSet(
        JWTBundle(_domain(bundle.trust_domain), cast("dict[str, JWTPublicKey]", bundle.jwt_authorities))  # it checks
        for bundle in source.bundles
    )


class AdaptedX509Source(spiffe.X509Source):
    """A ``spiffe.X509Source`` over a source of ours, with py-spiffe's values and errors. Made by `as_pyspiffe`.

    `close` ends this adapter and not the source, which is its owner's. Callbacks run in a thread of this adapter's own,
    so that a slow one delays no rotation; who is slow is called once for several updates. In a forked child they are
    called as before, once the source in it has news.
    """

    def __init__(self, source: X509ContextSource) -> None:
        # Not the parent's, which would connect to an agent and start threads. Nothing of it is used but the type.
        self._source = source
        self._adapter_closed = False
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self._changing = threading.Lock()
        self._notifier: _Notifier | None = None
        source.x509_context.svid  # noqa: B018 - raises where there is none, as the parent's constructor would

    def get_x509_context(self) -> PySpiffeX509Context:
        """Return the SVIDs and bundles, which belong together, the one to use first."""
        context = self._context()
        if not context.svids:
            raise X509SourceError("the agent has no SVID for this workload, only bundles")
        return PySpiffeX509Context([_svid(svid) for svid in context.svids], _bundle_set(context))

    @property
    def svid(self) -> spiffe.X509Svid:
        """The newest SVID. For a pair that belongs together use `get_x509_context`."""
        return self.get_x509_context().default_svid

    @property
    def bundles(self) -> frozenset[spiffe.X509Bundle]:
        """The newest bundles, one for each trust domain."""
        return frozenset(_bundle_set(self._context()).bundles)

    def get_bundle_for_trust_domain(self, trust_domain: spiffe.TrustDomain) -> spiffe.X509Bundle | None:
        """Return the newest bundle of a trust domain, or None."""
        return _bundle_set(self._context()).get_bundle_for_trust_domain(trust_domain)

    def subscribe_for_updates(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each update from now on. One that fails is logged and called again."""
        with self._changing:
            if self._adapter_closed:
                raise X509SourceError("this source is closed")
            self._callbacks = (*self._callbacks, callback)
            if self._notifier is None:
                self._notifier = _Notifier(self._source, self._call)

    def unsubscribe_for_updates(self, callback: Callable[[], None]) -> None:
        """Call `callback` no more. A no-op for one that is not subscribed."""
        with self._changing:
            known = list(self._callbacks)
            if callback in known:
                known.remove(callback)
            self._callbacks = tuple(known)

    def is_closed(self) -> bool:
        """Say whether nothing can be had of this any more: it was closed, or the source was."""
        if self._adapter_closed:
            return True
        try:
            self._source.x509_context  # noqa: B018 - asked for what it raises
        except SourceClosedError:
            return True
        except RetryableError:
            pass
        return False

    def close(self) -> None:
        """End this adapter: no more values, no more callbacks. The source stays open. Again, a no-op."""
        with self._changing:
            self._adapter_closed = True
            self._callbacks = ()
            notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.close()

    def __repr__(self) -> str:
        return f"<AdaptedX509Source of {self._source!r}>"

    def _context(self) -> X509Context:
        if self._adapter_closed:
            raise X509SourceError("this source is closed")
        try:
            return self._source.x509_context
        except SpiffeError as error:
            raise X509SourceError(str(error)) from error

    def _call(self) -> None:
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a subscriber to updates failed callback=%r", callback)


class PySpiffeSource:
    """A `X509ContextSource` over a ``spiffe.X509Source``. Made by `from_pyspiffe`.

    What holds: `x509_context` is the newest update that keeps our rules; `problem` says what is wrong with a newer one.
    It outlives the death of py-spiffe's source, which one bad update kills: an SVID ends when it expires. `close` ends
    this adapter and not py-spiffe's source. What py-spiffe's source cannot do it does not learn here: in a forked child
    nothing follows updates any more.
    """

    def __init__(self, source: "spiffe.X509Source") -> None:
        self._source = source
        self._taking = threading.Lock()
        self._holder = X509ContextHolder()
        self.problem: SpiffeError | None = None
        """What is wrong with the newest update; None where it is the one in use."""
        source.subscribe_for_updates(self._updated)
        try:
            with self._taking:
                self._holder.publish(_read(source))
        except BaseException:
            self.close()
            raise

    @property
    def x509_context(self) -> X509Context:
        """The newest good context. Never blocks.

        Raises:
            SourceClosedError: `close` was called.
        """
        return self._holder.x509_context

    def close(self) -> None:
        """Forget everything and follow no more updates. Again, a no-op."""
        self._source.unsubscribe_for_updates(self._updated)
        self._holder.close()

    def __enter__(self) -> "PySpiffeSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PySpiffeSource problem={self.problem}>"

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        return self._holder._add_listener(listener)

    def _updated(self) -> None:
        """Take what py-spiffe's source holds now. In its thread."""
        with self._taking:  # so that of two updates the older one is not published last
            try:
                self._holder.publish(_read(self._source))
            except SourceClosedError:
                return
            except SpiffeError as error:
                self.problem = error
                _logger.warning("an update of py-spiffe's source is refused, the last good one is kept: %s", error)
            else:
                self.problem = None


class _Notifier:
    """Calls when a source has news, in a thread of its own, of which there is one in each process."""

    def __init__(self, source: X509ContextSource, call: Callable[[], None]) -> None:
        self._call = call
        self._start()
        self._remove = source._add_listener(self._heard)

    def close(self) -> None:
        """End, and wait for a callback that is running, unless it is the one that closes."""
        self._remove()
        self._news.put(None)
        if self._process == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    def _heard(self, context: X509Context) -> None:
        if self._process != os.getpid():  # a forked child has the object and not the thread
            self._start()
        self._news.put(context)

    def _start(self) -> None:
        self._process = os.getpid()
        self._news: queue.SimpleQueue[X509Context | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(self._news,), name="authsec-pyspiffe", daemon=True)
        self._thread.start()

    def _work(self, news: "queue.SimpleQueue[X509Context | None]") -> None:
        while True:
            heard = [news.get()]
            while not news.empty():
                heard.append(news.get())
            if None in heard:
                return
            self._call()


# --- values, in both directions --------------------------------------------------------------------------------------


def _svid(svid: X509SVID) -> spiffe.X509Svid:
    return spiffe.X509Svid(spiffe.SpiffeId(str(svid.id)), list(svid.certificates), svid.private_key)


def _bundle_set(context: X509Context) -> spiffe.X509BundleSet:
    return spiffe.X509BundleSet.of(
        [
            spiffe.X509Bundle(spiffe.TrustDomain(bundle.trust_domain.name), set(bundle.authorities))
            for bundle in context.bundles.values()
        ]
    )


def _read(source: "spiffe.X509Source") -> X509Context:
    """Read what py-spiffe's source holds, by our rules.

    Raises:
        SpiffeError: a rule is broken, or the source is closed.
    """
    try:
        context = source.get_x509_context()
    except X509SourceError as error:
        raise SourceClosedError(f"py-spiffe's source gives nothing any more: {error}") from error
    svids = tuple(_own_svid(svid) for svid in context.x509_svids)
    for svid in svids:
        if svid.is_expired(datetime.now(UTC)):
            raise InvalidX509SVIDError(f"the SVID of {svid.id} expired at {svid.not_after:%FT%TZ}")
    return X509Context(svids, BundleSet(_own_bundle(bundle) for bundle in context.x509_bundle_set.bundles))


def _own_svid(svid: spiffe.X509Svid) -> X509SVID:
    own = X509SVID(tuple(svid.cert_chain), cast("SVIDPrivateKey", svid.private_key))  # which checks the kind of key
    if own.id != SpiffeID.parse(str(svid.spiffe_id)):
        raise InvalidX509SVIDError(f"the SVID said to be of {svid.spiffe_id} is of {own.id}")
    return own


def _own_bundle(bundle: spiffe.X509Bundle) -> X509Bundle:
    return X509Bundle(_domain(bundle.trust_domain), _in_order(bundle.x509_authorities))


def _domain(trust_domain: spiffe.TrustDomain) -> TrustDomain:
    return TrustDomain.parse(trust_domain.name)


def _in_order(authorities: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Put a set's certificates in an order that is the same each time, the newest first."""
    return tuple(sorted(authorities, key=_age))


def _age(certificate: x509.Certificate) -> tuple[float, int]:
    return -certificate.not_valid_before_utc.timestamp(), certificate.serial_number
