# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/discovery.proto. Do not edit.
"""Messages of authsec_sdk/proto/envoy/discovery.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.envoy import core_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import status_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import any_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b"\n'authsec_sdk/proto/envoy/discovery.prot"
    b'o\x12\x1aenvoy.service.discovery.v3\x1a"authsec_s'
    b'dk/proto/envoy/core.proto\x1a\x1eauthsec_sdk/p'
    b'roto/status.proto\x1a\x19google/protobuf/any.p'
    b'roto"\xbe\x01\n\x10DiscoveryRequest\x12\x14\n\x0cversion_inf'
    b'o\x18\x01 \x01(\t\x12(\n\x04node\x18\x02 \x01(\x0b2\x1a.envoy.config.cor'
    b'e.v3.Node\x12\x16\n\x0eresource_names\x18\x03 \x03(\t\x12\x10\n\x08typ'
    b'e_url\x18\x04 \x01(\t\x12\x16\n\x0eresponse_nonce\x18\x05 \x01(\t\x12(\n\x0ce'
    b'rror_detail\x18\x06 \x01(\x0b2\x12.google.rpc.Status"s\n'
    b'\x11DiscoveryResponse\x12\x14\n\x0cversion_info\x18\x01 \x01(\t'
    b"\x12'\n\tresources\x18\x02 \x03(\x0b2\x14.google.protobuf.An"
    b'y\x12\x10\n\x08type_url\x18\x04 \x01(\t\x12\r\n\x05nonce\x18\x05 \x01(\t"\x8e\x03\n\x15D'
    b'eltaDiscoveryRequest\x12(\n\x04node\x18\x01 \x01(\x0b2\x1a.env'
    b'oy.config.core.v3.Node\x12\x10\n\x08type_url\x18\x02 \x01(\t'
    b'\x12 \n\x18resource_names_subscribe\x18\x03 \x03(\t\x12"\n\x1are'
    b'source_names_unsubscribe\x18\x04 \x03(\t\x12q\n\x19initia'
    b'l_resource_versions\x18\x05 \x03(\x0b2N.envoy.servic'
    b'e.discovery.v3.DeltaDiscoveryRequest.Ini'
    b'tialResourceVersionsEntry\x12\x16\n\x0eresponse_no'
    b'nce\x18\x06 \x01(\t\x12(\n\x0cerror_detail\x18\x07 \x01(\x0b2\x12.google'
    b'.rpc.Status\x1a>\n\x1cInitialResourceVersionsEn'
    b'try\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01"\xaa\x01\n\x16'
    b'DeltaDiscoveryResponse\x12\x1b\n\x13system_version'
    b'_info\x18\x01 \x01(\t\x127\n\tresources\x18\x02 \x03(\x0b2$.envoy.s'
    b'ervice.discovery.v3.Resource\x12\x10\n\x08type_url'
    b'\x18\x04 \x01(\t\x12\r\n\x05nonce\x18\x05 \x01(\t\x12\x19\n\x11removed_resourc'
    b'es\x18\x06 \x03(\t"b\n\x08Resource\x12\x0f\n\x07version\x18\x01 \x01(\t\x12&\n'
    b'\x08resource\x18\x02 \x01(\x0b2\x14.google.protobuf.Any\x12\x0c\n'
    b'\x04name\x18\x03 \x01(\t\x12\x0f\n\x07aliases\x18\x04 \x03(\tb\x06proto3'
)
DiscoveryRequest = _pool.message_class("envoy.service.discovery.v3.DiscoveryRequest", __name__)
DiscoveryResponse = _pool.message_class("envoy.service.discovery.v3.DiscoveryResponse", __name__)
DeltaDiscoveryRequest = _pool.message_class("envoy.service.discovery.v3.DeltaDiscoveryRequest", __name__)
DeltaDiscoveryResponse = _pool.message_class("envoy.service.discovery.v3.DeltaDiscoveryResponse", __name__)
Resource = _pool.message_class("envoy.service.discovery.v3.Resource", __name__)
