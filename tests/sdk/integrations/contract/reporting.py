"""Inside a server program under test: tells the test, over a datagram socket, what happens here."""

import os
import pickle
import socket
import threading
from typing import Any

from authsec_sdk.spiffe import X509Context
from authsec_sdk.workloadapi import X509Source


def report(kind: str, value: Any = None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(pickle.dumps((kind, os.getpid(), value)), os.environ["REPORTS"])


def on_rejected(rejection: Any) -> None:
    report("rejected", rejection)


def hit() -> None:
    report("hit")


def key(context: X509Context) -> tuple[int, frozenset[int]]:
    """What tells one context from another."""
    authorities = (authority for bundle in context.bundles.values() for authority in bundle.authorities)
    return context.svid.leaf.serial_number, frozenset(authority.serial_number for authority in authorities)


def source() -> X509Source:
    """Make a source that reports each context once all who listen to it have it."""
    made = X509Source()

    def follow() -> None:
        context = None
        while True:
            try:
                context = made.wait(newer_than=context)
                report("context", key(context))
            except Exception:
                return  # the end

    threading.Thread(target=follow, daemon=True).start()
    return made
