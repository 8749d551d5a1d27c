"""What the commands that call an agent share: where its socket is, how failures are told, how a call is made."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from authsec_sdk.errors import SpiffeError
from authsec_sdk.rpc import Channel, GRPCError
from icp_agent.config.settings import DEFAULT_SOCKET
from icp_common.flags import FlagSet

SOCKET_VARIABLE: Final = "SPIRE_AGENT_PUBLIC_SOCKET"
TEMPLATE_VARIABLE: Final = f"{SOCKET_VARIABLE}_TEMPLATE"
SECURITY_HEADER: Final = {"workload.spiffe.io": "true"}
LARGEST_ANSWER: Final = 64 * 1024 * 1024

Talk = Callable[[Channel], Awaitable[int]]


class CommandError(SpiffeError):
    """The command cannot do what it was asked to; the text is for whoever typed it."""


class AgentCommand:
    """The flags of a command, those for the connection among them, and the way to run it."""

    def __init__(self, name: str, *, summary: str, examples: Sequence[str]) -> None:
        self.flags = FlagSet(name, summary=summary, examples=examples)
        self._socket = self.flags.string(
            "socketPath", "Path to the SPIRE Agent API Unix domain socket", str(DEFAULT_SOCKET)
        )
        self._instance = self.flags.string(
            "instance", f"Instance name to substitute into socket templates (env {TEMPLATE_VARIABLE})."
        )

    def run(self, arguments: Sequence[str], talk: Talk) -> int:
        """Parse the flags, connect, and talk to the agent; returns the exit code.

        Raises:
            UsageError, HelpRequested: the command line is wrong, or asks for help.
        """
        rest = self.flags.parse(arguments)
        if rest:
            raise self.flags.error(f"unexpected argument: {rest[0]}")
        try:
            path = socket_path(self._socket.value, self._instance.value, os.environ)
            return asyncio.run(_talk(path, talk))
        except GRPCError as error:
            print(rpc_error(error), file=sys.stderr)
        except (SpiffeError, OSError, ValueError) as error:
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            return 0
        return 1


async def _talk(path: str, talk: Talk) -> int:
    async with Channel.unix(path, max_receive_bytes=LARGEST_ANSWER, max_backoff=0) as channel:
        return await talk(channel)


def socket_path(flag: str, instance: str, environ: Mapping[str, str]) -> str:
    """The flag, else the template with the instance's name in it, else the environment's, else the default.

    Raises:
        CommandError: an instance is named and there is no template to put it into.
    """
    template = environ.get(TEMPLATE_VARIABLE, "")
    if instance and not template:
        raise CommandError(f"{TEMPLATE_VARIABLE} environment variable must be defined when using the instance flag")
    if instance and "%i" not in template:
        raise CommandError(f"failed to find %i in {TEMPLATE_VARIABLE}")
    if flag != str(DEFAULT_SOCKET):
        return flag
    if instance:
        return template.replace("%i", instance)
    return environ.get(SOCKET_VARIABLE) or flag


def rpc_error(error: GRPCError) -> str:
    """A failed call in grpc-go's words, which scripts look for."""
    name = "".join(part.capitalize() for part in error.status.name.split("_"))
    return f"rpc error: code = {_GO_NAMES.get(name, name)} desc = {error.message or ''}"


_GO_NAMES: Final = {"Cancelled": "Canceled"}
