"""Following endpoints: what is published, what is kept, and what no endpoint can do."""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from authsec_sdk.errors import InvalidBundleError, NotReadyError, SourceClosedError, UnavailableError
from authsec_sdk.federation import BundleEndpoint, FederationSource, StaleBundleError
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.telemetry import Event, SourceConnected, SourceLost, SourceUpdated, UpdateRejected
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError

pytestmark = pytest.mark.anyio  # on asyncio and trio
Make = Callable[..., Any]
B = TrustDomain.parse("b.test")


@pytest.fixture
def ours(publisher: Make) -> Any:
    return publisher(sequence_number=5)


@pytest.fixture
def here(ours: Any, site: Make) -> Any:
    """The endpoint of b.test, which serves itself."""
    return site(ours.tls(), ours.answer)


@pytest.fixture
def make(ours: Any, here: Any, quick: Any) -> Callable[..., FederationSource]:
    def source(*more: BundleEndpoint, **options: Any) -> FederationSource:
        own = BundleEndpoint.spiffe("b.test", here.url, ours.server_id, bundle=ours.ca.bundle())
        return FederationSource(own, *more, **{"refresh": quick, **options})

    return source


class TestNews:
    async def test_a_new_authority_arrives(self, make: Make, ours: Any) -> None:
        async with make() as source:
            first = await source.ready(30)
            ours.ca.rotate()
            ours.extra["sequence_number"] = 6
            with anyio.fail_after(30):
                async for bundles in source.updates():
                    if len(bundles.require(B).x509_authorities) == 2:
                        break
            assert source.bundles.require(B) == ours.ca.bundle()
            assert source.status.of("b.test").updates >= 1
            assert first.require(B).x509_authorities != source.trust_bundles.require(B).x509_authorities

    async def test_the_endpoint_is_proven_by_what_was_fetched_last(
        self, make: Make, ours: Any, eventually: Any
    ) -> None:
        """5.2.2.4: the domain rotates its root and drops the one we were given; nobody has to come."""
        async with make() as source:
            await eventually(lambda: source.status.of(B).last_success)
            ours.ca.rotate()
            await eventually(lambda: source.bundles.require(B) == ours.ca.bundle())
            ours.renew()  # the server's own certificate is of the new root now
            ours.ca.remove_old_roots()
            await eventually(lambda: source.bundles.require(B) == ours.ca.bundle())
            before = source.status.of(B).attempts
            await eventually(lambda: source.status.of(B).attempts > before + 3)
            assert source.status.of(B).current

    async def test_the_context_is_another_one_only_when_authorities_change(
        self, make: Make, ours: Any, eventually: Any
    ) -> None:
        async with make() as source:
            await eventually(lambda: source.status.of(B).sequence_number == 5)
            context, heard = source.x509_context, []
            source._add_listener(heard.append)
            ours.extra["sequence_number"] = 8
            await eventually(lambda: source.trust_bundles.require(B).sequence_number == 8)
            assert source.x509_context is context
            ours.ca.rotate()
            await eventually(lambda: source.x509_context is not context)
            await eventually(lambda: bool(heard))
            assert heard[-1] is source.x509_context
            assert source.x509_context.svids == ()

    async def test_keys_of_tokens(self, make: Make, ours: Any, eventually: Any) -> None:
        keys = ours.ca.tokens.jwt_bundle()
        async with make() as source:
            ours.extra["jwt_authorities"] = keys.authorities
            await eventually(lambda: source.jwt_bundles.require(B) == keys)

    async def test_what_the_hint_says_counts(self, make: Make, ours: Any, quick: Any) -> None:
        ours.extra["refresh_hint"] = timedelta(hours=1)
        patient = replace(quick, maximum=1000.0)
        async with make(refresh=patient) as source:
            with anyio.fail_after(30):
                while not source.status.of(B).current:
                    await anyio.sleep(0.005)
            status = source.status.of(B)
            assert status.next_attempt is not None
            assert status.last_success is not None
            assert 899 < (status.next_attempt - status.last_success).total_seconds() <= 1000


class TestTrouble:
    async def test_a_lower_sequence_number_changes_nothing(
        self, make: Make, ours: Any, eventually: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with make() as source:
            await eventually(lambda: source.status.of(B).sequence_number == 5)
            known = source.bundles.require(B)
            ours.ca.rotate()
            ours.extra["sequence_number"] = 4
            await eventually(lambda: source.status.of(B).rejected > 2)
            assert source.bundles.require(B) == known
            status = source.status.of(B)
            assert isinstance(status.last_error, StaleBundleError)
            assert (status.current, status.known, status.sequence_number) == (False, True, 5)
            ours.extra["sequence_number"] = 6
            await eventually(lambda: source.bundles.require(B) == ours.ca.bundle())
            assert source.status.of(B).failures == 0
        words = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert any("keeping what was known" in text and "sequence number 4, and 5 is known" in text for text in words)

    async def test_nor_after_a_bundle_without_a_number(self, make: Make, ours: Any, eventually: Any) -> None:
        async with make() as source:
            await eventually(lambda: source.status.of(B).sequence_number == 5)
            ours.extra["sequence_number"] = None
            await eventually(lambda: source.status.of(B).sequence_number is None)
            ours.extra["sequence_number"] = 4
            await eventually(lambda: source.status.of(B).rejected > 0)
            assert isinstance(source.status.of(B).last_error, StaleBundleError)

    async def test_the_same_number_for_other_authorities_is_taken_and_told(
        self, make: Make, ours: Any, eventually: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An authority that the publisher removed must go, though the publisher cannot count."""
        async with make() as source:
            await eventually(lambda: source.status.of(B).sequence_number == 5)
            ours.ca.rotate()
            await eventually(lambda: source.bundles.require(B) == ours.ca.bundle())
        assert any("sequence number 5 did not" in record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize("kind", ["down", "garbage", "another domain", "impostor", "silent", "empty"])
    async def test_the_last_good_one_stays(
        self, make: Make, ours: Any, here: Any, http: Any, eventually: Any, kind: str
    ) -> None:
        async with make(timeout=1.0 if kind == "silent" else 20.0) as source:
            await eventually(lambda: source.status.of(B).current)
            known = source.trust_bundles
            good = here.answer, here.context
            other = TestCA("a.test")

            def silence(*_: Any) -> None:
                here.pause(5)

            match kind:
                case "down":
                    here.answer = http.always(b"")
                case "garbage":
                    here.answer = http.always(http.reply(b"garbage"))
                case "another domain":
                    document = type(ours)(other).document()
                    here.answer = http.always(http.reply(document))
                case "impostor":
                    here.context = type(ours)(TestCA("b.test")).tls()
                case "silent":
                    here.answer = silence
                case "empty":
                    here.answer = http.always(http.reply(b'{"keys": []}'))
            await eventually(lambda: source.status.of(B).failures > 1)
            error = source.status.of(B).last_error
            wanted = {
                "down": UnavailableError,
                "silent": UnavailableError,
                "impostor": PeerVerificationError,
            }
            assert isinstance(error, wanted.get(kind, InvalidBundleError)), error
            assert source.trust_bundles is known
            assert source.status.healthy
            here.answer, here.context = good
            await eventually(lambda: source.status.of(B).current)

    async def test_one_that_is_away_keeps_nobody_waiting(
        self, make: Make, web: Any, quick: Any, publisher: Make, site: Make, eventually: Any
    ) -> None:
        web.server()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nobody = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        async with make(BundleEndpoint.web("c.test", nobody, ca_file=web.ca_file)) as source:
            assert set(source.bundles) == {B}
            assert not source.status.healthy
            assert not source.status.of("c.test").known

    async def test_none_of_them_is_there(self, web: Any, quick: Any) -> None:
        web.server()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nobody = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        source = FederationSource(BundleEndpoint.web("c.test", nobody, ca_file=web.ca_file), refresh=quick)
        with pytest.raises(NotReadyError, match=r"no bundles of c\.test within 1 s: .* cannot be reached"):
            await source.ready(1)
        with pytest.raises(NotReadyError, match="cannot be reached"):
            _ = source.x509_context
        await source.aclose()
        with pytest.raises(SourceClosedError):
            _ = source.bundles
        assert not source.status.healthy

    async def test_one_endpoint_says_nothing_about_the_domain_of_another(
        self, make: Make, web: Any, site: Make, publisher: Make, eventually: Any
    ) -> None:
        """c.test serves the bundle of b.test as its own: that proves no ID of b.test, and b.test keeps its own."""
        ours_too = publisher("b.test")
        evil = site(web.server(), ours_too.answer)
        async with make(BundleEndpoint.web("c.test", evil.url, ca_file=web.ca_file)) as source:
            await eventually(lambda: source.status.of("c.test").attempts > 0)
            bundles = source.bundles
            assert not bundles.require(B).contains(ours_too.ca.certificate)


class TestChains:
    async def test_a_server_of_another_domain_whose_bundle_is_fetched_first(
        self, make: Make, ours: Any, site: Make, publisher: Make, quick: Any, eventually: Any
    ) -> None:
        """Figure 4: b.test serves the bundle of c.test; nothing but b.test's own endpoint says who b.test is."""
        theirs = publisher("c.test")
        there = site(ours.tls(), theirs.answer)
        async with make(BundleEndpoint.spiffe("c.test", there.url, ours.server_id)) as source:
            await eventually(lambda: len(source.bundles) == 2)
            assert source.bundles.require(theirs.ca.trust_domain) == theirs.ca.bundle()
            ours.ca.rotate()
            await eventually(lambda: source.bundles.require(B) == ours.ca.bundle())
            ours.renew()
            ours.ca.remove_old_roots()
            theirs.ca.rotate()
            await eventually(lambda: source.bundles.require(theirs.ca.trust_domain) == theirs.ca.bundle())

    async def test_from_the_web_to_spiffe(
        self, ours: Any, web: Any, site: Make, publisher: Make, quick: Any, eventually: Any
    ) -> None:
        theirs = publisher("c.test")
        first, second = site(web.server(), ours.answer), site(ours.tls(), theirs.answer)
        source = FederationSource(
            BundleEndpoint.spiffe("c.test", second.url, ours.server_id),
            BundleEndpoint.web("b.test", first.url, ca_file=web.ca_file),
            refresh=quick,
        )
        async with source:
            assert {str(domain) for domain in source.bundles} == {"b.test", "c.test"}
            assert source.status.of("c.test").failures == 0  # it waited for its turn


class TestAsASource:
    def test_in_threads(self, make: Make, ours: Any) -> None:
        with make() as source:
            first = source.wait(30)
            ours.ca.rotate()
            news = source.wait(30, newer_than=first)
            while len(news.require(B).x509_authorities) < 2:
                news = source.wait(30, newer_than=news)
            assert "known=1/1" in repr(source)
        until(lambda: "authsec-sdk-sources" not in [thread.name for thread in threading.enumerate()])

    def test_the_first_bundle_counts_from_the_start(self, ours: Any, quick: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nobody = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        own = BundleEndpoint.spiffe("b.test", nobody, ours.server_id, bundle=ours.bundle())
        with FederationSource(own, refresh=quick) as source:
            assert source.trust_bundles.require(B) == ours.bundle()

    async def test_an_observer_hears_of_it(self, make: Make, ours: Any, here: Any, http: Any, eventually: Any) -> None:
        heard: list[Event] = []
        async with make(observer=heard.append) as source:
            await eventually(lambda: source.status.of(B).current)
            here.answer = http.always(http.reply(b"garbage"))
            await eventually(lambda: any(isinstance(event, UpdateRejected) for event in heard))
            here.answer = http.always(b"")
            await eventually(lambda: any(isinstance(event, SourceLost) for event in heard))
            here.answer = ours.answer
            before = len(heard)
            await eventually(lambda: any(isinstance(event, SourceConnected) for event in heard[before:]))
        assert any(isinstance(event, SourceUpdated) for event in heard)
        assert {event.source.place for event in heard if isinstance(event, SourceLost)} == {here.url}

    async def test_closing_in_the_middle_of_a_fetch(self, ours: Any, web: Any, site: Make, eventually: Any) -> None:
        def silence(_connection: ssl.SSLSocket, _path: str) -> None:
            here.pause(30)

        here = site(web.server(), silence)
        source = FederationSource(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file))
        source.start()
        await eventually(lambda: here.paths)
        with anyio.fail_after(10):
            await source.aclose()
        assert source.status.closed
        await eventually(lambda: "authsec-sdk-sources" not in [thread.name for thread in threading.enumerate()])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_by_itself(make: Make, ours: Any) -> None:
    """What was known is there at once; news comes by a connection of the child's own, and the parent keeps its."""
    with make() as source:
        until(lambda: source.status.of(B).current)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                known = source.trust_bundles.require(B)  # at once, and begins anew
                attempts = source.status.of(B).attempts
                until(lambda: source.status.of(B).attempts > attempts and source.status.of(B).current)
                status = 0 if known.trust_domain == B else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        attempts = source.status.of(B).attempts
        until(lambda: source.status.of(B).attempts > attempts and source.status.of(B).current)


def until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)
