"""`X509Context` and the source in memory."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from authsec_sdk.errors import NoIdentityError, NotReadyError, SourceClosedError
from authsec_sdk.spiffe import (
    X509SVID,
    BundleSet,
    TrustDomain,
    X509Bundle,
    X509Context,
    X509ContextHolder,
    X509ContextSource,
)


@pytest.fixture
def contexts(mint: Any, root: Any) -> list[X509Context]:
    bundles = BundleSet.of(X509Bundle(TrustDomain("example.org"), (root.certificate,)))
    leaves = [mint.leaf(root, uri=f"spiffe://example.org/{name}") for name in "abc"]
    return [X509Context((X509SVID.parse_der(leaf.der, leaf.key_der),), bundles) for leaf in leaves]


def test_the_first_svid_is_the_one_to_use(contexts: list[X509Context]) -> None:
    svids = contexts[0].svids + contexts[1].svids
    context = X509Context(list(svids), contexts[0].bundles)  # type: ignore[arg-type]
    assert context.svids == svids
    assert context.svid is svids[0]
    assert context == X509Context(svids, contexts[0].bundles)
    assert hash(context) == hash(X509Context(svids, contexts[0].bundles))
    with pytest.raises((AttributeError, TypeError)):
        context.svids = ()  # type: ignore[misc]


def test_a_context_of_bundles_alone_has_no_identity(contexts: list[X509Context]) -> None:
    with pytest.raises(NoIdentityError, match="register an entry"):
        _ = X509Context((), contexts[0].bundles).svid


def test_a_context_shows_no_key(contexts: list[X509Context]) -> None:
    assert "PrivateKey" not in repr(contexts[0])


def test_a_holder_is_not_ready_until_something_is_published(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    with pytest.raises(NotReadyError):
        _ = holder.x509_context
    holder.publish(contexts[0])
    assert holder.x509_context is contexts[0]
    source: X509ContextSource = X509ContextHolder(contexts[1])
    assert source.x509_context is contexts[1]


def test_a_closed_holder_says_so_and_forgets(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder(contexts[0])
    heard: list[X509Context] = []
    holder._add_listener(heard.append)
    holder.close()
    holder.close()
    for call in (lambda: holder.x509_context, lambda: holder.publish(contexts[0])):
        with pytest.raises(SourceClosedError):
            call()
    holder._add_listener(heard.append)()
    assert heard == []


def test_listeners_hear_what_is_published_after_them_and_until_removed(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder(contexts[0])
    heard: list[X509Context] = []
    remove_first = holder._add_listener(heard.append)
    remove_second = holder._add_listener(heard.append)
    holder.publish(contexts[1])
    assert heard == [contexts[1], contexts[1]]
    remove_first()
    remove_first()
    holder.publish(contexts[2])
    assert heard == [contexts[1], contexts[1], contexts[2]]
    remove_second()
    holder.publish(contexts[0])
    assert len(heard) == 3


def test_a_listener_runs_in_the_publishers_thread_and_finds_the_context_published(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    seen: list[tuple[int, bool]] = []
    holder._add_listener(lambda context: seen.append((threading.get_ident(), holder.x509_context is context)))
    thread = threading.Thread(target=holder.publish, args=(contexts[0],))
    thread.start()
    ident = thread.ident
    thread.join()
    assert seen == [(ident, True)]


def test_a_listener_that_fails_is_not_the_others_trouble(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    heard: list[X509Context] = []

    def fail(context: X509Context) -> None:
        raise RuntimeError("cannot build")

    holder._add_listener(fail)
    holder._add_listener(heard.append)
    with pytest.raises(ExceptionGroup) as trouble:
        holder.publish(contexts[0])
    assert [type(error) for error in trouble.value.exceptions] == [RuntimeError]
    assert heard == [contexts[0]]
    assert holder.x509_context is contexts[0]


def test_a_listener_may_remove_itself_while_it_runs(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    heard: list[X509Context] = []

    def once(context: X509Context) -> None:
        heard.append(context)
        remove()

    remove = holder._add_listener(once)
    holder.publish(contexts[0])
    holder.publish(contexts[1])
    assert heard == [contexts[0]]


def test_publishers_in_many_threads_are_heard_in_the_order_of_becoming_newest(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    heard: list[X509Context] = []
    out_of_order: list[X509Context] = []

    def listen(context: X509Context) -> None:
        heard.append(context)
        if holder.x509_context is not context:
            out_of_order.append(context)

    holder._add_listener(listen)
    threads = [
        threading.Thread(target=lambda context=context: [holder.publish(context) for _ in range(300)])
        for context in contexts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 900
    assert out_of_order == []
    assert heard[-1] is holder.x509_context


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_publishing_can_publish(contexts: list[X509Context]) -> None:
    holder = X509ContextHolder()
    publishing, forked = threading.Event(), threading.Event()

    def hold_the_lock(context: X509Context) -> None:
        publishing.set()
        forked.wait(30)

    remove = holder._add_listener(hold_the_lock)
    thread = threading.Thread(target=holder.publish, args=(contexts[0],))
    thread.start()
    assert publishing.wait(30)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            done = threading.Event()
            worker = threading.Thread(target=lambda: (remove(), holder.publish(contexts[1]), done.set()), daemon=True)
            worker.start()
            code = 0 if done.wait(20) and holder.x509_context is contexts[1] else 1
        finally:
            os._exit(code)
    forked.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
