"""The Logger service, on the admin socket alone: how much the running server logs."""

from __future__ import annotations

from typing import cast

import grpclib.server

from authsec_sdk.proto.spire import logger_grpc, logger_pb2, types_pb2
from icp_server.domain.errors import InvalidArgument
from icp_server.grpc_api.decode import request_of
from icp_server.grpc_api.request import current_request
from icp_server.services.log_levels import LEVELS, LogLevelService


class LoggerAPI(logger_grpc.LoggerBase):
    """Decodes, calls the use case, encodes."""

    def __init__(self, levels: LogLevelService) -> None:
        self._levels = levels

    async def GetLogger(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[logger_pb2.GetLoggerRequest, types_pb2.Logger]
    ) -> None:
        """Send the level, and that of the start."""
        await request_of(stream)
        await stream.send_message(self._state())

    async def SetLogLevel(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[logger_pb2.SetLogLevelRequest, types_pb2.Logger]
    ) -> None:
        """Log from this level on."""
        message = await request_of(stream)
        number = int(message.new_level)
        known = 1 <= number <= len(LEVELS)
        current_request().note(new_log_level=LEVELS[number - 1].upper() if known else number or "UNSPECIFIED")
        if number == types_pb2.UNSPECIFIED:
            raise InvalidArgument("newLevel value cannot be LogLevel_UNSPECIFIED")
        if not known:
            raise InvalidArgument("unsupported log level")
        self._levels.set(LEVELS[number - 1])
        await stream.send_message(self._state())

    async def ResetLogLevel(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[logger_pb2.ResetLogLevelRequest, types_pb2.Logger]
    ) -> None:
        """Log as much as at the start."""
        await request_of(stream)
        self._levels.reset()
        await stream.send_message(self._state())

    def _state(self) -> types_pb2.Logger:
        return types_pb2.Logger(current_level=_number(self._levels.current), launch_level=_number(self._levels.launch))


def _number(level: str) -> types_pb2.LogLevel:
    return cast("types_pb2.LogLevel", LEVELS.index(level) + 1)
