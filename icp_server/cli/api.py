"""What every command that calls the server has in common: its flags, its connection, and how its failures are told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from authsec_sdk.errors import SpiffeError
from authsec_sdk.rpc import Channel, GRPCError
from icp_common.flags import FlagSet
from icp_server.cli.output import FORMATS, PRETTY, Console
from icp_server.grpc_api.errors import status_name

DEFAULT_SOCKET: Final = "/tmp/spire-server/private/api.sock"  # noqa: S108  (SPIRE's own default)
TEMPLATE_VARIABLE: Final = "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE"
SOCKET_VARIABLE: Final = "SPIRE_SERVER_PRIVATE_SOCKET"

TIMEOUT: Final = 120.0
"""Seconds a call may take; a server that hangs must not hang whoever asks it."""

_LARGEST_ANSWER: Final = 64 * 1024 * 1024

Talk = Callable[[Channel, Console], Awaitable[None]]


class CommandError(SpiffeError):
    """The command cannot do what it was asked to; the text is for whoever typed it."""


class APICommand:
    """The flags of a command, those for the connection among them, and the way to run it."""

    def __init__(self, name: str, *, summary: str, examples: Sequence[str], prints_records: bool = True) -> None:
        self.flags = FlagSet(
            name, summary=summary, examples=[f"icp-server {name} {each}".rstrip() for each in examples]
        )
        self._socket = self.flags.string("socketPath", "Path to the SPIRE Server API socket", DEFAULT_SOCKET)
        self._instance = self.flags.string(
            "instance", f"Instance name to substitute into socket templates (env {TEMPLATE_VARIABLE})."
        )
        self._format = (
            self.flags.custom(
                "output", "Desired output format (pretty, json); default: pretty.", PRETTY, _output_format
            )
            if prints_records
            else None
        )

    def run(self, arguments: Sequence[str], talk: Talk) -> int:
        """Parse the flags, connect, and talk to the server; returns the exit code.

        Raises:
            UsageError: a flag is wrong.
            HelpRequested: help was asked for.
        """
        self.flags.parse(arguments)
        console = Console(format=self._format.value if self._format else PRETTY)
        try:
            path = socket_path(self._socket.value, self._instance.value, os.environ)
            asyncio.run(_talk(path, console, talk))
        except GRPCError as error:
            console.err(f"Error: {rpc_error(error)}")
            return 1
        except BrokenPipeError:  # whoever read our output has gone (`| head`): no error of ours, and nobody to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (SpiffeError, OSError, ValueError) as error:
            console.err(f"Error: {error}")
            return 1
        return 0


async def _talk(path: str, console: Console, talk: Talk) -> None:
    async with Channel.unix(path, max_receive_bytes=_LARGEST_ANSWER, max_backoff=0) as channel:
        await talk(channel, console)


def socket_path(flag: str, instance: str, environ: Mapping[str, str]) -> str:
    """Choose the socket: the flag, else the template with the instance's name in it, else the environment's.

    Raises:
        CommandError: an instance is named and there is no template to put it into.
    """
    template = environ.get(TEMPLATE_VARIABLE, "")
    if instance:
        if not template:
            raise CommandError(f"you must define {TEMPLATE_VARIABLE} to use the instance flag")
        if "%i" not in template:
            raise CommandError(f"failed to find %i in {TEMPLATE_VARIABLE}")
    if flag != DEFAULT_SOCKET:
        return flag
    if instance:
        return template.replace("%i", instance)
    return environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET


def rpc_error(error: GRPCError) -> str:
    """Render a failed call as grpc-go does, which scripts match."""
    return f"rpc error: code = {status_name(error.status.value)} desc = {error.message or ''}"


def _output_format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f'bad formatter flag: unknown format option: "{text}"')
    return text
