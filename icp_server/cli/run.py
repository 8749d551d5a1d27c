"""`icp-server run` and `validate`: the configuration's two commands, with the same flags."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path

from authsec_sdk.errors import SpiffeError
from icp_common.flags import FlagSet
from icp_common.service import Service
from icp_server.ca.composer_registry import known_composers
from icp_server.config import Overrides, ServerConfig, load_config
from icp_server.config.model import DEFAULT_CONFIG_PATH
from icp_server.nodeattestors.registry import known_attestors

logger = logging.getLogger(__name__)

_RELOADS = (signal.SIGUSR1, signal.SIGUSR2)


def run(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; 1 if the server cannot start or cannot go on."""
    from icp_common import logs, service

    overrides = _Flags(
        "run",
        summary="Runs the server in the foreground, until SIGTERM or Ctrl-C.",
        examples=(
            "icp-server run -config conf/server/server.conf",
            "icp-server run -config server.conf -expandEnv -logLevel debug",
        ),
    ).parse(arguments)
    try:
        config = load_config(overrides, os.environ, known_attestors(), known_composers())
        logs.configure(
            level=config.log.level,
            log_format=config.log.format,
            file=str(config.log.file) if config.log.file else None,
            source_location=config.log.source_location,
            stream=sys.stdout,
        )
    except SpiffeError as error:
        sys.stderr.write(f"{error}\n")
        return 1

    async def main(daemon: Service) -> int:
        return await _serve(config, daemon)

    return service.run(main)


async def _serve(config: ServerConfig, daemon: Service) -> int:
    from icp_server.app import ICPServer

    loop = asyncio.get_running_loop()
    for number in _RELOADS:  # upstream reloads plugins and reopens its log on these; unhandled they would end us
        loop.add_signal_handler(number, logger.info, "nothing to reload; signal=%s", number.name)
    try:
        async with ICPServer(config) as server:
            daemon.ready(f"serving {config.trust_domain}")
            await _until_stopped(server.run(), daemon)
    except (SpiffeError, OSError) as error:
        logger.error("Server crashed error=%s", error)  # noqa: TRY400  (the text says it all; no traceback for operators)
        return 1
    except Exception:
        logger.exception("Server crashed")
        return 1
    logger.info("Server stopped gracefully")
    return 0


async def _until_stopped(work: Coroutine[None, None, None], daemon: Service) -> None:
    """Run the server's tasks until the daemon is asked to stop, or one of them fails."""
    tasks = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(daemon.stopped())
    try:
        await asyncio.wait({tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if tasks.done():
            await tasks
    finally:
        for task in (tasks, stopped):
            task.cancel()
        await asyncio.gather(tasks, stopped, return_exceptions=True)


def validate(arguments: Sequence[str]) -> int:
    """Check a configuration without starting anything."""
    overrides = _Flags(
        "validate",
        summary="Checks a configuration file (and the flags of run) and says what is wrong with it.",
        examples=("icp-server validate -config conf/server/server.conf",),
    ).parse(arguments)
    try:
        config = load_config(overrides, os.environ, known_attestors(), known_composers())
    except SpiffeError as error:
        sys.stderr.write(f"SPIRE server configuration file is invalid: {error}\n")
        return 1
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write("SPIRE server configuration file is valid.\n")
    return 0


class _Flags:
    """The flags that name a configuration and override what it says."""

    def __init__(self, name: str, *, summary: str, examples: Sequence[str]) -> None:
        flags = FlagSet(name, summary=summary, examples=examples)
        self._set = flags
        self._bind_address = flags.string("bindAddress", "IP address or DNS name of the SPIRE server")
        self._bind_port = flags.integer("serverPort", "Port number of the SPIRE server")
        self._config = flags.string("config", f"Path to a SPIRE config file (default: {DEFAULT_CONFIG_PATH})")
        self._data_dir = flags.string("dataDir", "Directory to store runtime data to")
        self._expand_env = flags.boolean("expandEnv", "Expand environment variables in SPIRE config file")
        self._log_file = flags.string("logFile", "File to write logs to")
        self._log_format = flags.string("logFormat", "'text' or 'json'")
        self._log_level = flags.string("logLevel", "'debug', 'info', 'warn', or 'error'")
        self._log_source = flags.boolean(
            "logSourceLocation", "Include source file, line number and function name in log lines"
        )
        self._socket_path = flags.string("socketPath", "Path to bind the SPIRE Server API socket to")
        self._trust_domain = flags.string("trustDomain", "The trust domain that this server belongs to")

    def parse(self, arguments: Sequence[str]) -> Overrides:
        """Read the flags.

        Raises:
            UsageError: one is wrong.
            HelpRequested: help was asked for.
        """
        self._set.parse(arguments)
        if self._bind_port.value not in range(65536):
            raise self._set.error(f"invalid value {self._bind_port.value} for flag -serverPort: no port")
        return Overrides(
            config=Path(self._config.value) if self._config.value else DEFAULT_CONFIG_PATH,
            expand_env=self._expand_env.value,
            bind_address=self._bind_address.value or None,
            bind_port=self._bind_port.value or None,
            data_dir=self._data_dir.value or None,
            log_file=self._log_file.value or None,
            log_format=self._log_format.value or None,
            log_level=self._log_level.value or None,
            log_source_location=self._log_source.value if self._log_source.given else None,
            socket_path=self._socket_path.value or None,
            trust_domain=self._trust_domain.value or None,
        )
