# Written by authsec_sdk.proto.generate from google/protobuf/empty.proto. Do not edit.
"""Messages of google/protobuf/empty.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.POOL.FindFileByName('google/protobuf/empty.proto')
Empty = _pool.message_class("google.protobuf.Empty", __name__)
