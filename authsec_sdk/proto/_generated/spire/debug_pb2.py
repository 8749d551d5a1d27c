# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/debug.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/debug.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n#authsec_sdk/proto/spire/debug.proto\x12\x19s'
    b'pire.api.server.debug.v1\x1a#authsec_sdk/pr'
    b'oto/spire/types.proto"\x10\n\x0eGetInfoRequest"'
    b'\x88\x02\n\x0fGetInfoResponse\x12C\n\nsvid_chain\x18\x01 \x03(\x0b2'
    b'/.spire.api.server.debug.v1.GetInfoRespo'
    b'nse.Cert\x12\x0e\n\x06uptime\x18\x02 \x01(\x05\x12\x14\n\x0cagents_count'
    b'\x18\x03 \x01(\x05\x12\x1f\n\x17federated_bundles_count\x18\x04 \x01(\x05\x12'
    b'\x15\n\rentries_count\x18\x05 \x01(\x05\x1aR\n\x04Cert\x12%\n\x02id\x18\x01 \x01'
    b'(\x0b2\x19.spire.api.types.SPIFFEID\x12\x12\n\nexpires'
    b'_at\x18\x02 \x01(\x03\x12\x0f\n\x07subject\x18\x03 \x01(\t2i\n\x05Debug\x12`\n\x07G'
    b'etInfo\x12).spire.api.server.debug.v1.GetIn'
    b'foRequest\x1a*.spire.api.server.debug.v1.Ge'
    b'tInfoResponseb\x06proto3'
)
GetInfoRequest = _pool.message_class("spire.api.server.debug.v1.GetInfoRequest", __name__)
GetInfoResponse = _pool.message_class("spire.api.server.debug.v1.GetInfoResponse", __name__)
