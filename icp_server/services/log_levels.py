"""How much the running server logs, and back to how much it was started with."""

from __future__ import annotations

import logging
from typing import Final

from icp_common.logs import set_level
from icp_server.domain.errors import InvalidArgument

logger = logging.getLogger(__name__)

LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
"""In SPIRE's words and order, the quietest first."""


class LogLevelService:
    """The Logger API's use cases. The level is the process's, so there is one of these in it."""

    def __init__(self, launch: str) -> None:
        name = launch.lower()
        self.launch: Final = "warn" if name == "warning" else name
        self.current = self.launch
        """As it was set; of two that mean the same here, the one that was asked for."""

    def set(self, level: str) -> None:
        """Log from this level on.

        Raises:
            InvalidArgument: there is no such level.
        """
        if level not in LEVELS:
            raise InvalidArgument("unsupported log level")
        logger.info("Log level set new_log_level=%s", level)
        set_level(level)
        self.current = level

    def reset(self) -> None:
        """Log as much as at the start."""
        self.set(self.launch)
