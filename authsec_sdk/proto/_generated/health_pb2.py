# Written by authsec_sdk.proto.generate from authsec_sdk/proto/health.proto. Do not edit.
"""Messages of authsec_sdk/proto/health.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n\x1eauthsec_sdk/proto/health.proto\x12\x0egrpc.h'
    b'ealth.v1"%\n\x12HealthCheckRequest\x12\x0f\n\x07servic'
    b'e\x18\x01 \x01(\t"\xa9\x01\n\x13HealthCheckResponse\x12A\n\x06statu'
    b's\x18\x01 \x01(\x0e21.grpc.health.v1.HealthCheckResp'
    b'onse.ServingStatus"O\n\rServingStatus\x12\x0b\n\x07U'
    b'NKNOWN\x10\x00\x12\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0bNOT_SERVING\x10\x02\x12\x13'
    b'\n\x0fSERVICE_UNKNOWN\x10\x03"\x13\n\x11HealthListRequest'
    b'"\xae\x01\n\x12HealthListResponse\x12B\n\x08statuses\x18\x01 \x03('
    b'\x0b20.grpc.health.v1.HealthListResponse.St'
    b'atusesEntry\x1aT\n\rStatusesEntry\x12\x0b\n\x03key\x18\x01 \x01('
    b'\t\x122\n\x05value\x18\x02 \x01(\x0b2#.grpc.health.v1.Health'
    b'CheckResponse:\x028\x012\xfd\x01\n\x06Health\x12P\n\x05Check\x12".'
    b'grpc.health.v1.HealthCheckRequest\x1a#.grpc'
    b'.health.v1.HealthCheckResponse\x12M\n\x04List\x12!'
    b'.grpc.health.v1.HealthListRequest\x1a".grpc'
    b'.health.v1.HealthListResponse\x12R\n\x05Watch\x12"'
    b'.grpc.health.v1.HealthCheckRequest\x1a#.grp'
    b'c.health.v1.HealthCheckResponse0\x01b\x06proto'
    b'3'
)
HealthCheckRequest = _pool.message_class("grpc.health.v1.HealthCheckRequest", __name__)
HealthCheckResponse = _pool.message_class("grpc.health.v1.HealthCheckResponse", __name__)
HealthListRequest = _pool.message_class("grpc.health.v1.HealthListRequest", __name__)
HealthListResponse = _pool.message_class("grpc.health.v1.HealthListResponse", __name__)
