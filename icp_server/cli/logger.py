"""`icp-server logger`: how much the running server logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from authsec_sdk.proto.spire import logger_grpc, logger_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.output import Console, quote

_LEVELS: Final = ("panic", "fatal", "error", "warning", "info", "debug", "trace")
"""As they are printed; their places from 1 on are their numbers."""


def get(arguments: Sequence[str]) -> int:
    """Print the level, and that of the start."""
    command = APICommand("logger get", summary="Prints how much the server logs.", examples=("",))

    async def talk(channel: Channel, console: Console) -> None:
        call = logger_grpc.LoggerStub(channel).GetLogger
        await _tell(console, lambda: call(logger_pb2.GetLoggerRequest(), timeout=TIMEOUT), "error fetching logger")

    return command.run(arguments, talk)


def set_(arguments: Sequence[str]) -> int:
    """Log from another level on."""
    command = APICommand("logger set", summary="Sets how much the server logs.", examples=("-level debug",))
    level = command.flags.string("level", "The new log level, one of (panic, fatal, error, warn, info, debug, trace)")

    async def talk(channel: Channel, console: Console) -> None:
        if not level.value:
            raise CommandError("a value (-level) must be set")
        name = {"warn": "warning"}.get(level.value.lower(), level.value.lower())
        if name not in _LEVELS:
            raise CommandError(f"the value {quote(level.value)} is not a valid setting")
        number = types_pb2.LogLevel.Name(_LEVELS.index(name) + 1)
        request = logger_pb2.SetLogLevelRequest(new_level=number)
        call = logger_grpc.LoggerStub(channel).SetLogLevel
        await _tell(console, lambda: call(request, timeout=TIMEOUT), "failed to set log level")

    return command.run(arguments, talk)


def reset(arguments: Sequence[str]) -> int:
    """Log as much as at the start."""
    command = APICommand("logger reset", summary="Sets how much the server logs back to the start's.", examples=("",))

    async def talk(channel: Channel, console: Console) -> None:
        call = logger_grpc.LoggerStub(channel).ResetLogLevel
        await _tell(console, lambda: call(logger_pb2.ResetLogLevelRequest(), timeout=TIMEOUT), "failed to reset logger")

    return command.run(arguments, talk)


async def _tell(console: Console, call: Callable[[], Awaitable[types_pb2.Logger]], failure: str) -> None:
    try:
        answer = await call()
    except GRPCError as error:
        raise CommandError(f"{failure}: {rpc_error(error)}") from error
    if console.wants_json:
        console.json(answer)
        return
    for number in (answer.current_level, answer.launch_level):
        if not 1 <= number <= len(_LEVELS):
            raise CommandError(f"the server answered with the log level {number}, which is none")
    console.out(f"Logger Level : {_LEVELS[answer.current_level - 1]}")
    console.out(f"Launch Level : {_LEVELS[answer.launch_level - 1]}\n")
