"""py-spiffe on both sides: our sources as its `X509Source`, its sources as ours, each held to the stricter rules."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import spiffe
from spiffe.workloadapi.errors import X509SourceError
from spiffe.workloadapi.x509_context import X509Context as PySpiffeX509Context

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import (
    InvalidBundleError,
    InvalidSpiffeIDError,
    InvalidX509SVIDError,
    NoIdentityError,
    NotReadyError,
    SourceClosedError,
)
from authsec_sdk.integrations.pyspiffe import PySpiffeSource, as_pyspiffe, from_pyspiffe, jwt_bundles_of
from authsec_sdk.spiffe import JWTSVID, BundleSet, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA, shake
from authsec_sdk.tls import mtls_client_context, mtls_server_context, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source

ID = "spiffe://example.org/workload"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- our source where py-spiffe's is expected ------------------------------------------------------------------------


@pytest.fixture
def source(fake_workload_api: FakeWorkloadAPI) -> Iterator[X509Source]:
    with X509Source(fake_workload_api.address) as source:
        yield source


def test_it_has_py_spiffes_type_and_values(
    source: X509Source, fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA
) -> None:
    foreign = TestCA("foreign.test")
    fake_workload_api.federate(foreign)
    fake_workload_api.issue(spiffe_ca, "/second")
    until(lambda: len(source.x509_context.svids) == 2 and len(source.x509_context.bundles) == 2)
    with as_pyspiffe(source) as adapted:
        assert isinstance(adapted, spiffe.X509Source)
        context = adapted.get_x509_context()
        assert isinstance(context, PySpiffeX509Context)
        assert context.default_svid.spiffe_id == spiffe.SpiffeId(ID)
        assert [str(svid.spiffe_id) for svid in context.x509_svids] == [ID, "spiffe://example.org/second"]
        assert context.default_svid.leaf == source.x509_context.svid.leaf
        assert context.default_svid.private_key is source.x509_context.svid.private_key
        assert adapted.svid.cert_chain == list(source.x509_context.svid.certificates)
        assert {bundle.trust_domain.name for bundle in adapted.bundles} == {"example.org", "foreign.test"}
        bundle = adapted.get_bundle_for_trust_domain(spiffe.TrustDomain("foreign.test"))
        assert bundle is not None
        assert bundle.x509_authorities == {foreign.certificate}
        assert adapted.get_bundle_for_trust_domain(spiffe.TrustDomain("unknown.test")) is None
        assert not adapted.is_closed()
    assert adapted.is_closed()
    assert source.x509_context.svids, "the source is its owner's to close"


def test_the_newest_svid_is_what_it_gives_and_subscribers_hear_of_it(
    source: X509Source, fake_workload_api: FakeWorkloadAPI
) -> None:
    adapted = as_pyspiffe(source)
    heard: list[object] = []
    threads: set[str] = set()

    def failing() -> None:
        raise RuntimeError("not my day")

    def hear() -> None:
        heard.append(adapted.svid.leaf)
        threads.add(threading.current_thread().name)

    adapted.subscribe_for_updates(failing)
    adapted.subscribe_for_updates(hear)
    for _ in range(3):
        count, before = len(heard), adapted.svid.leaf
        fake_workload_api.rotate()
        until(lambda before=before, count=count: len(heard) > count and heard[-1] != before)  # type: ignore[misc]
    assert threads == {"authsec-pyspiffe"}
    adapted.unsubscribe_for_updates(hear)
    adapted.unsubscribe_for_updates(hear)
    count = len(heard)
    marker = threading.Event()
    adapted.subscribe_for_updates(marker.set)
    fake_workload_api.rotate()
    assert marker.wait(30)
    assert len(heard) == count
    adapted.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "authsec-pyspiffe"]


def test_a_slow_subscriber_delays_no_rotation_and_may_close(
    source: X509Source, fake_workload_api: FakeWorkloadAPI
) -> None:
    adapted = as_pyspiffe(source)
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        go_on.wait(30)
        adapted.close()

    adapted.subscribe_for_updates(slow)
    fake_workload_api.rotate()
    assert entered.wait(30)
    before = source.x509_context
    fake_workload_api.rotate()
    source.wait(30, newer_than=before)
    go_on.set()
    until(adapted.is_closed)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "authsec-pyspiffe"])


def test_what_cannot_be_had_is_py_spiffes_error(spiffe_ca: TestCA) -> None:
    holder = X509ContextHolder()
    with pytest.raises(NotReadyError):
        as_pyspiffe(holder)
    holder.publish(X509Context((), BundleSet.of(spiffe_ca.bundle())))
    with pytest.raises(NoIdentityError):
        as_pyspiffe(holder)
    holder.publish(X509Context((spiffe_ca.svid(),), BundleSet.of(spiffe_ca.bundle())))
    adapted = as_pyspiffe(holder)
    adapted.subscribe_for_updates(lambda: None)
    holder.publish(X509Context((), BundleSet.of(spiffe_ca.bundle())))
    with pytest.raises(X509SourceError, match="no SVID"):
        adapted.get_x509_context()
    assert len(adapted.bundles) == 1
    holder.close()
    assert adapted.is_closed()
    adapted.close()
    adapted.close()
    for ask in (adapted.get_x509_context, lambda: adapted.svid, lambda: adapted.bundles):
        with pytest.raises(X509SourceError, match="closed"):
            ask()
    with pytest.raises(X509SourceError, match="closed"):
        adapted.subscribe_for_updates(lambda: None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_hears_of_updates_which_py_spiffes_own_source_never_does(
    source: X509Source, fake_workload_api: FakeWorkloadAPI
) -> None:
    adapted = as_pyspiffe(source)
    told = threading.Event()
    adapted.subscribe_for_updates(told.set)
    streams = fake_workload_api.streams
    down, up = os.pipe()
    if not (pid := os.fork()):
        try:
            before = adapted.svid.leaf  # begins a stream of the child's own
            told.clear()
            os.write(up, b"r")
            os._exit(0 if told.wait(30) and adapted.svid.leaf != before else 1)
        finally:
            os._exit(2)
    assert os.read(down, 1) == b"r"
    fake_workload_api.wait_until(lambda: fake_workload_api.streams == streams + 1)
    fake_workload_api.rotate()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(down)
    os.close(up)
    adapted.close()


# --- py-spiffe's source where ours is expected -----------------------------------------------------------------------


@pytest.fixture
def theirs(fake_workload_api: FakeWorkloadAPI) -> Iterator[spiffe.X509Source]:
    with spiffe.X509Source(socket_path=fake_workload_api.address, timeout_in_seconds=30) as source:
        yield source


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> object:
    """Shake hands in memory and return whom the client met."""
    return peer_spiffe_id(shake(server, client).check().client)


def arrived(ours: PySpiffeSource, change: Callable[[], None]) -> None:
    """Wait until a change has arrived in every context made before: listeners are told in order, this one last."""
    told = threading.Event()
    remove = ours._add_listener(lambda _: told.set())
    change()
    assert told.wait(30)
    remove()


def test_contexts_follow_py_spiffes_source(theirs: spiffe.X509Source, fake_workload_api: FakeWorkloadAPI) -> None:
    with from_pyspiffe(theirs) as ours:
        client = mtls_client_context(ours, authorize_id(ID))
        server = mtls_server_context(ours, authorize_member_of("example.org"))
        for _ in range(3):
            assert str(handshake(client, server)) == ID
            arrived(ours, lambda: fake_workload_api.rotate(root=True))
        assert len(ours.x509_context.bundles.require(TrustDomain.parse("example.org")).authorities) == 4
        arrived(ours, fake_workload_api.remove_root)
        assert len(ours.x509_context.bundles.require(TrustDomain.parse("example.org")).authorities) == 1
        assert str(handshake(client, server)) == ID
        assert ours.problem is None
    with pytest.raises(SourceClosedError):
        ours.x509_context  # noqa: B018
    assert not theirs.is_closed(), "it is its owner's to close"


def test_it_outlives_the_one_bad_update_that_kills_py_spiffes_source(
    theirs: spiffe.X509Source, fake_workload_api: FakeWorkloadAPI
) -> None:
    with from_pyspiffe(theirs) as ours:
        before = ours.x509_context
        fake_workload_api.federate(X509Bundle(TrustDomain.parse("empty.test"), ()))
        until(theirs.is_closed)
        assert ours.x509_context is before
        assert str(handshake(mtls_client_context(ours, authorize_id(ID)), mtls_server_context(ours, authorize_id(ID))))


class Scripted(spiffe.X509Source):
    """A source of py-spiffe's type whose values a test says, wrong ones included."""

    def __init__(self, context: PySpiffeX509Context) -> None:
        self.context = context
        self.callbacks: list[Callable[[], None]] = []

    def get_x509_context(self) -> PySpiffeX509Context:
        return self.context

    def subscribe_for_updates(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def unsubscribe_for_updates(self, callback: Callable[[], None]) -> None:
        self.callbacks.remove(callback) if callback in self.callbacks else None

    def update(self, context: PySpiffeX509Context) -> None:
        self.context = context
        for callback in list(self.callbacks):
            callback()


def theirs_of(ca: TestCA, **changes: object) -> PySpiffeX509Context:
    svid = ca.svid()
    whole = {"id": spiffe.SpiffeId(ID), "chain": list(svid.certificates), "key": svid.private_key, **changes}
    bundle = spiffe.X509Bundle(spiffe.TrustDomain(ca.trust_domain.name), set(ca.bundle().authorities))
    return PySpiffeX509Context(
        [spiffe.X509Svid(whole["id"], whole["chain"], whole["key"])], spiffe.X509BundleSet.of([bundle])
    )


WRONG = [
    ("somebody else's key", lambda ca: theirs_of(ca, key=ca.svid().private_key), InvalidX509SVIDError),
    ("another ID", lambda ca: theirs_of(ca, id=spiffe.SpiffeId("spiffe://example.org/admin")), InvalidX509SVIDError),
    ("a line feed", lambda ca: theirs_of(ca, id=spiffe.SpiffeId(f"{ID}\n")), InvalidSpiffeIDError),
    ("a leaf that signs", lambda ca: wrong_leaf(ca, ca=True), InvalidX509SVIDError),
    ("two URIs", lambda ca: wrong_leaf(ca, uris=(ID, f"{ID}2")), InvalidX509SVIDError),
    (
        "expired",
        lambda ca: wrong_leaf(
            ca,
            not_before=datetime.now(UTC) - timedelta(days=2),
            not_after=datetime.now(UTC) - timedelta(days=1),
        ),
        InvalidX509SVIDError,
    ),
]


def wrong_leaf(ca: TestCA, /, **options: object) -> PySpiffeX509Context:
    credential = ca.credential("/workload", **options)  # type: ignore[arg-type]
    return theirs_of(ca, chain=list(credential.certificates), key=credential.private_key)


@pytest.mark.parametrize(("make", "error"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_breaks_our_rules_is_refused_and_the_last_good_one_kept(
    spiffe_ca: TestCA, make: Callable[[TestCA], PySpiffeX509Context], error: type[Exception]
) -> None:
    wrong = make(spiffe_ca)
    with pytest.raises(error):
        from_pyspiffe(Scripted(wrong))
    theirs = Scripted(theirs_of(spiffe_ca))
    ours = from_pyspiffe(theirs)
    before = ours.x509_context
    theirs.update(wrong)
    assert ours.x509_context is before
    assert isinstance(ours.problem, error)
    theirs.update(theirs_of(spiffe_ca))
    assert ours.x509_context is not before
    assert ours.problem is None
    ours.close()
    assert theirs.callbacks == []
    theirs.update(theirs_of(spiffe_ca))


def test_a_source_that_is_closed_is_refused(theirs: spiffe.X509Source) -> None:
    theirs.close()
    with pytest.raises(SourceClosedError, match="closed"):
        from_pyspiffe(theirs)


def test_there_and_back_again(source: X509Source, fake_workload_api: FakeWorkloadAPI) -> None:
    with as_pyspiffe(source) as adapted, from_pyspiffe(adapted) as back:
        assert back.x509_context.svids == source.x509_context.svids
        assert back.x509_context.bundles == source.x509_context.bundles
        before = back.x509_context
        fake_workload_api.rotate()
        until(lambda: back.x509_context is not before)


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_keys_of_a_jwt_source_validate_here(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    with spiffe.JwtSource(socket_path=fake_workload_api.address, timeout_in_seconds=30) as theirs:
        token = theirs.fetch_svid({"payments"}).token
        svid = JWTSVID.parse_and_validate(token, jwt_bundles_of(theirs), ["payments"], now=datetime.now(UTC))
    assert str(svid.id) == ID


def test_a_key_that_no_svid_is_signed_with_is_refused(spiffe_ca: TestCA) -> None:
    class Jwt(spiffe.JwtSource):
        def __init__(self) -> None:
            pass

        @property
        def bundles(self) -> frozenset[spiffe.JwtBundle]:
            return frozenset([spiffe.JwtBundle(spiffe.TrustDomain("example.org"), {"k": b"secret"})])

    with pytest.raises(InvalidBundleError, match="not a public key for signatures"):
        jwt_bundles_of(Jwt())
