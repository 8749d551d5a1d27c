"""A CA, a fake agent that serves it, and nothing in the environment."""

from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import X509Source


@pytest.fixture
def ca(spiffe_ca: TestCA) -> TestCA:
    return spiffe_ca


@pytest.fixture
def fake(fake_workload_api: FakeWorkloadAPI) -> FakeWorkloadAPI:
    """An agent that serves spiffe://example.org/workload."""
    return fake_workload_api


@pytest.fixture
def silent() -> Iterator[FakeWorkloadAPI]:
    """An agent that has nothing to say yet."""
    with FakeWorkloadAPI() as fake:
        yield fake


@pytest.fixture
def source(fake: FakeWorkloadAPI) -> Iterator[X509Source]:
    """A source that has its first identity."""
    with X509Source(fake.address) as source:
        yield source


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait for a condition in a test that is a task, without blocking its event loop."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(30):
            while not condition():
                await anyio.sleep(0.005)

    return wait
