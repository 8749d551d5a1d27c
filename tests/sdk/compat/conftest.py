"""The names of authsec-sdk 4.x know asyncio alone, as they did."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
