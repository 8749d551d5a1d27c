"""What tests of the API share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def root_level() -> Iterator[int]:
    """The level of the process's root logger, which a test may change."""
    loggers = [logging.getLogger(name) for name in ("", "asyncio", "hpack", "aiosqlite")]
    before = [logger.level for logger in loggers]
    yield before[0]
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
