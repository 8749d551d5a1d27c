"""What happens to TLS in a forked child: contexts go on, connections of the parent do not.

Two processes that share a connection would use one nonce twice, and a child that drops privileges would go on talking
as its parent. So each inherited connection refuses use. Nothing is sent for it, no TLS goodbye either, which would end
the parent's connection; the descriptor is the application's to close.
"""

from __future__ import annotations

import os

from authsec_sdk.tls.connection import end_connections
from authsec_sdk.tls.context import all_contexts
from authsec_sdk.tls.generations import all_generations

__all__: list[str] = []

_TEXT = "this TLS connection belongs to the parent process; open a new one after the fork"


def _after_fork_in_child() -> None:
    for generations in all_generations():
        generations.renew_lock()
        for generation in generations.alive():
            end_connections(generation, _TEXT)
            if generation.sessions is not None:
                generation.sessions.clear()
    for context in all_contexts():
        context._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
