# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/sds.proto. Do not edit.
"""Messages of authsec_sdk/proto/envoy/sds.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.envoy import discovery_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n!authsec_sdk/proto/envoy/sds.proto\x12\x17env'
    b"oy.service.secret.v3\x1a'authsec_sdk/proto/"
    b'envoy/discovery.proto2\xf2\x02\n\x16SecretDiscover'
    b'yService\x12y\n\x0cDeltaSecrets\x121.envoy.service'
    b'.discovery.v3.DeltaDiscoveryRequest\x1a2.en'
    b'voy.service.discovery.v3.DeltaDiscoveryR'
    b'esponse(\x010\x01\x12p\n\rStreamSecrets\x12,.envoy.ser'
    b'vice.discovery.v3.DiscoveryRequest\x1a-.env'
    b'oy.service.discovery.v3.DiscoveryRespons'
    b'e(\x010\x01\x12k\n\x0cFetchSecrets\x12,.envoy.service.di'
    b'scovery.v3.DiscoveryRequest\x1a-.envoy.serv'
    b'ice.discovery.v3.DiscoveryResponseb\x06prot'
    b'o3'
)
