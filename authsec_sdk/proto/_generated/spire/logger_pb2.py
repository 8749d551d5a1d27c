# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/logger.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/logger.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n$authsec_sdk/proto/spire/logger.proto\x12\x1a'
    b'spire.api.server.logger.v1\x1a#authsec_sdk/'
    b'proto/spire/types.proto"\x12\n\x10GetLoggerRequ'
    b'est"B\n\x12SetLogLevelRequest\x12,\n\tnew_level\x18\x01'
    b' \x01(\x0e2\x19.spire.api.types.LogLevel"\x16\n\x14Reset'
    b'LogLevelRequest2\x90\x02\n\x06Logger\x12R\n\tGetLogger\x12'
    b',.spire.api.server.logger.v1.GetLoggerRe'
    b'quest\x1a\x17.spire.api.types.Logger\x12V\n\x0bSetLog'
    b'Level\x12..spire.api.server.logger.v1.SetLo'
    b'gLevelRequest\x1a\x17.spire.api.types.Logger\x12Z'
    b'\n\rResetLogLevel\x120.spire.api.server.logge'
    b'r.v1.ResetLogLevelRequest\x1a\x17.spire.api.ty'
    b'pes.Loggerb\x06proto3'
)
GetLoggerRequest = _pool.message_class("spire.api.server.logger.v1.GetLoggerRequest", __name__)
SetLogLevelRequest = _pool.message_class("spire.api.server.logger.v1.SetLogLevelRequest", __name__)
ResetLogLevelRequest = _pool.message_class("spire.api.server.logger.v1.ResetLogLevelRequest", __name__)
