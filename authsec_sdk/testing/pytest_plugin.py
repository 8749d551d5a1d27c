"""Pytest fixtures for users and for ourselves: a test CA, a fake Workload API on a real socket, two workloads.

Loaded by pytest in every run of every environment with this package in it, so it imports nothing heavy by itself.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from authsec_sdk.testing.ca import TestCA
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI
    from authsec_sdk.testing.pair import MTLSPair


class Rotate(Protocol):
    """What the fixture `rotate` is."""

    def __call__(self, *, root: bool = False, remove_old_roots: bool = False) -> None:
        """Issue everything again: with `root` by a new root, with `remove_old_roots` the older ones are forgotten."""
        ...


@pytest.fixture
def spiffe_ca() -> "TestCA":
    """Return a certificate authority of the trust domain `example.org`, new for each test."""
    from authsec_sdk.testing.ca import TestCA

    return TestCA("example.org")


@pytest.fixture
def workload_api(spiffe_ca: "TestCA") -> "Iterator[FakeWorkloadAPI]":
    """Serve a Workload API on a Unix socket that hands out `spiffe://example.org/workload`, signed by `spiffe_ca`.

    `workload_api.address` is what `SPIFFE_ENDPOINT_SOCKET` would hold; the environment is left alone.
    """
    from authsec_sdk.testing.fake_workload_api import FakeWorkloadAPI

    with FakeWorkloadAPI() as fake:
        fake.issue(spiffe_ca, "/workload")
        yield fake


@pytest.fixture
def fake_workload_api(workload_api: "FakeWorkloadAPI") -> "FakeWorkloadAPI":
    """Return `workload_api`, by another name."""
    return workload_api


@pytest.fixture
def mtls_pair(spiffe_ca: "TestCA") -> "Iterator[MTLSPair]":
    """Return a client and a server, `spiffe://example.org/client` and `…/server`, that trust `spiffe_ca`."""
    from authsec_sdk.testing.pair import MTLSPair

    pair = MTLSPair(spiffe_ca)
    yield pair
    pair.close()


@pytest.fixture
def rotate(request: pytest.FixtureRequest, spiffe_ca: "TestCA") -> Rotate:
    """Return what rotates the identities of this test: those of `workload_api` and of `mtls_pair`, as it uses them.

    Contexts follow with their next connection; sources when the update has arrived: wait for it, as with
    `source.wait(newer_than=…)`.
    """
    api: FakeWorkloadAPI | None = None
    pair: MTLSPair | None = None
    if {"workload_api", "fake_workload_api"} & set(request.fixturenames):
        api = request.getfixturevalue("workload_api")
    if "mtls_pair" in request.fixturenames:
        pair = request.getfixturevalue("mtls_pair")

    def rotate(*, root: bool = False, remove_old_roots: bool = False) -> None:
        if root:
            spiffe_ca.rotate()
        if remove_old_roots:
            spiffe_ca.remove_old_roots()
        if api is not None:
            api.rotate()
        if pair is not None:
            pair.rotate()

    return rotate
