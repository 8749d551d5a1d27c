"""Fakes to test SPIFFE code with: a certificate authority, a scripted Workload API, two workloads, hostile peers.

For our tests and yours. Nothing is imported until a name is used: pytest loads this package in every run of everybody
who has it installed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsec_sdk.testing.ca import Credential, TestCA
    from authsec_sdk.testing.clock import Clock
    from authsec_sdk.testing.fake_tokens import FakeTokens
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI
    from authsec_sdk.testing.handshake import Begun, Pipe, begin, shake
    from authsec_sdk.testing.hostile import (
        RUBBISH,
        HostileServer,
        hostile_credentials,
        padded_chain,
        plain_context,
        send_rubbish,
    )
    from authsec_sdk.testing.pair import MTLSPair, snapshot
    from authsec_sdk.testing.tokens import TestTokenCA

__all__ = [
    "RUBBISH",
    "Begun",
    "Clock",
    "Credential",
    "FakeTokens",
    "FakeWorkloadAPI",
    "HostileServer",
    "MTLSPair",
    "Pipe",
    "TestCA",
    "TestTokenCA",
    "begin",
    "hostile_credentials",
    "padded_chain",
    "plain_context",
    "send_rubbish",
    "shake",
    "snapshot",
]

# The same names again, for the interpreter: which module defines which.
_MODULES = {
    "ca": ("Credential", "TestCA"),
    "clock": ("Clock",),
    "fake_tokens": ("FakeTokens",),
    "fake_workload_api": ("FakeWorkloadAPI",),
    "handshake": ("Begun", "Pipe", "begin", "shake"),
    "hostile": ("RUBBISH", "HostileServer", "hostile_credentials", "padded_chain", "plain_context", "send_rubbish"),
    "pair": ("MTLSPair", "snapshot"),
    "tokens": ("TestTokenCA",),
}
_HOMES = {name: f"authsec_sdk.testing.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import the module a public name lives in when the name is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
