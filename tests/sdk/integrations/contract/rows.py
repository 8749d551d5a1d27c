"""The rows of the contract that every integration keeps, as client and as server.

`world.frontend` calls `world.payments`. The side under test asks for exactly its peer; the other one lets in every
member of the trust domain, so that a refusal is the doing of the side under test.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration_contract.census import nothing_left
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import PeerNotAuthorizedError, UntrustedPeerError
from authsec_sdk.spiffe import SpiffeID, X509ContextHolder
from authsec_sdk.tls import Rejection

MEMBERS = authorize_member_of("example.org")
SETTLE = 0.2  # between two rotations: peers cannot rotate at the same instant
PATIENCE = 10.0


@dataclass
class Side:
    """One row's view of a pair: who is under test, and who is its peer."""

    world: Any
    pair: Pair
    subject: str  # "client" or "server"
    folder: Path

    @property
    def is_client(self) -> bool:
        return self.subject == "client"

    @property
    def own(self) -> X509ContextHolder:
        return self.world.frontend if self.is_client else self.world.payments  # type: ignore[no-any-return]

    @property
    def peer(self) -> X509ContextHolder:
        return self.world.payments if self.is_client else self.world.frontend  # type: ignore[no-any-return]

    @property
    def own_id(self) -> SpiffeID:
        return self.world.frontend_id if self.is_client else self.world.payments_id  # type: ignore[no-any-return]

    @property
    def peer_id(self) -> SpiffeID:
        return self.world.payments_id if self.is_client else self.world.frontend_id  # type: ignore[no-any-return]

    @contextmanager
    def connected(self, wanted: Any = None, on_rejected: Any = None) -> Iterator[tuple[Any, Callable[[], Exchange]]]:
        """Run both ends; the side under test asks for `wanted`, its peer if that is None."""
        strict = wanted or authorize_id(self.peer_id)
        as_client = (strict, on_rejected) if self.is_client else (MEMBERS, None)
        as_server = (MEMBERS, None) if self.is_client else (strict, on_rejected)
        with self.pair.serve(self.world.payments, *as_server) as served:
            with self.pair.connect(served.port, self.world.frontend, *as_client) as call:
                yield served, call

    def seen_by_peer(self, exchange: Exchange) -> SpiffeID | None:
        return exchange.caller if self.is_client else exchange.peer

    def seen_by_own(self, exchange: Exchange) -> SpiffeID | None:
        return exchange.peer if self.is_client else exchange.caller


def refused(call: Callable[[], Exchange]) -> BaseException:
    """Return what a call raises that must not be answered."""
    with pytest.raises(Exception) as info:
        call()
    assert not isinstance(info.value, AssertionError | AttributeError | NameError | TypeError), "a bug, no refusal"
    return info.value


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def connects(side: Side) -> None:
    with side.connected() as (served, call):
        call()
        call()
        assert served.hits >= 2


def reads_the_peers_id(side: Side) -> None:
    with side.connected() as (_, call):
        assert side.seen_by_own(call()) == side.peer_id


def new_certificate_on_the_next_connection(side: Side) -> None:
    with side.connected() as (_, call):
        assert side.seen_by_peer(call()) == side.own_id
        renewed = side.world.ca.svid(f"{side.own_id.path}/renewed")  # another ID shows which certificate it was
        side.own.publish(side.world.context(renewed))
        assert side.seen_by_peer(call()) == renewed.id


def new_root_is_honoured(side: Side) -> None:
    world = side.world
    with side.connected() as (_, call):
        call()
        known = world.context(side.own.x509_context.svid)
        world.ca.rotate()
        side.peer.publish(world.context(world.ca.svid(side.peer_id)))
        side.own.publish(known)  # does not know the new root yet
        refused(call)
        side.own.publish(world.context(side.own.x509_context.svid))
        call()


def removed_root_is_refused(side: Side) -> None:
    world = side.world
    with side.connected() as (served, call):
        of_old_root = side.peer.x509_context.svid
        world.ca.rotate()
        world.publish()
        side.peer.publish(world.context(of_old_root))
        call()
        world.ca.remove_old_roots()
        side.own.publish(world.context(world.ca.svid(side.own_id)))
        hits = served.hits
        refused(call)
        assert served.hits == hits
        world.publish()
        call()


def wrong_id_is_refused_before_an_application_byte(side: Side) -> None:
    if side.is_client:
        credential = side.world.ca.credential("/intruder")
        with side.pair.impostor(side.world.ordinary_server_context(credential)) as impostor:
            with side.pair.connect(impostor.port, side.own, authorize_id(side.peer_id)) as call:
                refused(call)
        assert (impostor.connections > 0, impostor.received) == (True, b"")
        return
    with side.connected() as (served, call):
        side.peer.publish(side.world.context(side.world.ca.svid("/intruder")))
        refused(call)
        assert served.hits == 0


def cross_domain_forgery_is_refused(side: Side) -> None:
    heard: list[Rejection] = []
    with side.connected(on_rejected=heard.append) as (served, call):
        side.peer.publish(side.world.context(side.world.other.svid(side.peer_id)))
        refused(call)
        until(lambda: heard)
        assert isinstance(heard[0].reason, UntrustedPeerError)
        assert served.hits == 0


def no_certificate_is_refused(side: Side) -> None:
    """A server always has a certificate: the client's row is one without a SPIFFE ID in it."""
    world = side.world
    if side.is_client:
        nameless = world.ca.credential(uris=(), dns_names=("localhost",))
        with side.pair.impostor(world.ordinary_server_context(nameless)) as impostor:
            with side.pair.connect(impostor.port, side.own, MEMBERS) as call:
                refused(call)
        assert (impostor.connections > 0, impostor.received) == (True, b"")
        return
    heard: list[Rejection] = []
    with side.connected(on_rejected=heard.append) as (served, _):
        side.pair.call_without_certificate(served.port, world.context_without_certificate())
        until(lambda: heard)
        assert "no certificate" in str(heard[0].reason)
        assert served.hits == 0


def the_hook_hears_the_reason(side: Side) -> None:
    heard: list[Rejection] = []
    with side.connected(on_rejected=heard.append) as (_, call):
        side.peer.publish(side.world.context(side.world.ca.svid("/intruder")))
        error = refused(call)
        until(lambda: heard)
        rejection = heard[0]
        assert (str(rejection.spiffe_id), rejection.role) == ("spiffe://example.org/intruder", side.subject)
        assert isinstance(rejection.reason, PeerNotAuthorizedError)
        assert str(side.peer_id) in str(rejection.reason)
        if not side.is_client:
            assert "intruder" not in str(error), "the peer is told nothing"


def works_on_after_a_refusal(side: Side) -> None:
    with side.connected() as (served, call):
        for _ in range(3):
            side.peer.publish(side.world.context(side.world.ca.svid("/intruder")))
            refused(call)
            side.world.publish()
            call()
        assert served.hits == 3


def leaves_nothing_behind(side: Side) -> None:
    def once() -> None:
        with side.connected() as (_, call):
            call()
            side.peer.publish(side.world.context(side.world.ca.svid("/intruder")))
            refused(call)
            side.world.publish()
            call()

    once()  # what is made once in a process stays
    with nothing_left(side.folder):
        once()
        once()


SIDE_ROWS: list[Callable[[Side], None]] = [
    connects,
    reads_the_peers_id,
    new_certificate_on_the_next_connection,
    new_root_is_honoured,
    removed_root_is_refused,
    wrong_id_is_refused_before_an_application_byte,
    cross_domain_forgery_is_refused,
    no_certificate_is_refused,
    the_hook_hears_the_reason,
    works_on_after_a_refusal,
    leaves_nothing_behind,
]


def no_failure_through_rotations(world: Any, pair: Pair, rotations: int = 20, callers: int = 2) -> None:
    """Rotate SVIDs and roots on both sides under load, with new connections all the time: nothing fails."""
    failures: list[BaseException] = []
    calls = [0] * callers
    stop = threading.Event()
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:

        def load(number: int) -> None:
            with pair.connect(served.port, world.frontend, authorize_id(world.payments_id)) as call:
                while not stop.is_set():
                    try:
                        call()
                    except Exception as error:
                        failures.append(error)
                    calls[number] += 1

        threads = [threading.Thread(target=load, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: all(calls))
            for _ in range(1 + rotations):  # the first one only announces
                world.rotate()
                time.sleep(SETTLE)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []
    assert sum(calls) >= rotations, "no load"
