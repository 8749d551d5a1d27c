"""Fakes to test SPIFFE code with: a certificate authority and a scripted Workload API, for our tests and yours.

Nothing is imported until a name is used: pytest loads this package in every run of everybody who has it installed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsec_sdk.testing.ca import Credential, TestCA
    from authsec_sdk.testing.fake_tokens import FakeTokens
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI
    from authsec_sdk.testing.tokens import TestTokenCA

__all__ = ["Credential", "FakeTokens", "FakeWorkloadAPI", "TestCA", "TestTokenCA"]

_HOMES = {
    "Credential": "authsec_sdk.testing.ca",
    "FakeTokens": "authsec_sdk.testing.fake_tokens",
    "FakeWorkloadAPI": "authsec_sdk.testing.fake_workload_api",
    "TestCA": "authsec_sdk.testing.ca",
    "TestTokenCA": "authsec_sdk.testing.tokens",
}


def __getattr__(name: str) -> object:
    """Import the module a public name lives in when the name is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
