"""Pytest fixtures for users and for ourselves: a test CA, and a fake Workload API on a real socket.

Loaded by pytest in every run of every environment with this package in it, so it imports nothing heavy by itself.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from authsec_sdk.testing.ca import TestCA
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI


@pytest.fixture
def spiffe_ca() -> "TestCA":
    """Return a certificate authority of the trust domain `example.org`, new for each test."""
    from authsec_sdk.testing.ca import TestCA

    return TestCA("example.org")


@pytest.fixture
def fake_workload_api(spiffe_ca: "TestCA") -> "Iterator[FakeWorkloadAPI]":
    """Serve a Workload API on a Unix socket that hands out `spiffe://example.org/workload`, signed by `spiffe_ca`.

    `fake_workload_api.address` is what `SPIFFE_ENDPOINT_SOCKET` would hold; the environment is left alone.
    """
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI

    with FakeWorkloadAPI() as fake:
        fake.issue(spiffe_ca, "/workload")
        yield fake
