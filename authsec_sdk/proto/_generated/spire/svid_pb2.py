# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/svid.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/svid.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n"authsec_sdk/proto/spire/svid.proto\x12\x18sp'
    b'ire.api.server.svid.v1\x1a#authsec_sdk/prot'
    b'o/spire/types.proto"/\n\x13MintX509SVIDReque'
    b'st\x12\x0b\n\x03csr\x18\x01 \x01(\x0c\x12\x0b\n\x03ttl\x18\x02 \x01(\x05"?\n\x14MintX509'
    b"SVIDResponse\x12'\n\x04svid\x18\x01 \x01(\x0b2\x19.spire.api.t"
    b'ypes.X509SVID"w\n\x12MintWITSVIDRequest\x12%\n\x02i'
    b'd\x18\x01 \x01(\x0b2\x19.spire.api.types.SPIFFEID\x12\x12\n\npu'
    b'blic_key\x18\x02 \x01(\x0c\x12\x0b\n\x03ttl\x18\x03 \x01(\x05\x12\x19\n\x11signing_a'
    b'lgorithm\x18\x04 \x01(\t"=\n\x13MintWITSVIDResponse\x12&\n'
    b'\x04svid\x18\x01 \x01(\x0b2\x18.spire.api.types.WITSVID"Z\n'
    b'\x12MintJWTSVIDRequest\x12%\n\x02id\x18\x01 \x01(\x0b2\x19.spire.'
    b'api.types.SPIFFEID\x12\x10\n\x08audience\x18\x02 \x03(\t\x12\x0b\n\x03'
    b'ttl\x18\x03 \x01(\x05"=\n\x13MintJWTSVIDResponse\x12&\n\x04svid'
    b'\x18\x01 \x01(\x0b2\x18.spire.api.types.JWTSVID"V\n\x17Batc'
    b'hNewX509SVIDRequest\x12;\n\x06params\x18\x01 \x03(\x0b2+.sp'
    b'ire.api.server.svid.v1.NewX509SVIDParams'
    b'"\xc2\x01\n\x18BatchNewX509SVIDResponse\x12J\n\x07results'
    b'\x18\x01 \x03(\x0b29.spire.api.server.svid.v1.BatchN'
    b"ewX509SVIDResponse.Result\x1aZ\n\x06Result\x12'\n\x06s"
    b"tatus\x18\x01 \x01(\x0b2\x17.spire.api.types.Status\x12'\n\x04"
    b'svid\x18\x02 \x01(\x0b2\x19.spire.api.types.X509SVID"7\n'
    b'\x11NewJWTSVIDRequest\x12\x10\n\x08entry_id\x18\x01 \x01(\t\x12\x10\n\x08'
    b'audience\x18\x02 \x03(\t"T\n\x16BatchNewWITSVIDRequest'
    b'\x12:\n\x06params\x18\x01 \x03(\x0b2*.spire.api.server.svid'
    b'.v1.NewWITSVIDParams"\xbf\x01\n\x17BatchNewWITSVID'
    b'Response\x12I\n\x07results\x18\x01 \x03(\x0b28.spire.api.se'
    b'rver.svid.v1.BatchNewWITSVIDResponse.Res'
    b"ult\x1aY\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.ap"
    b'i.types.Status\x12&\n\x04svid\x18\x02 \x01(\x0b2\x18.spire.api'
    b'.types.WITSVID"<\n\x12NewJWTSVIDResponse\x12&\n\x04'
    b'svid\x18\x01 \x01(\x0b2\x18.spire.api.types.JWTSVID"@\n\x1a'
    b'NewDownstreamX509CARequest\x12\x0b\n\x03csr\x18\x01 \x01(\x0c\x12'
    b'\x15\n\rpreferred_ttl\x18\x02 \x01(\x05"N\n\x1bNewDownstreamX'
    b'509CAResponse\x12\x15\n\rca_cert_chain\x18\x01 \x03(\x0c\x12\x18\n\x10'
    b'x509_authorities\x18\x02 \x03(\x0c"2\n\x11NewX509SVIDPar'
    b'ams\x12\x10\n\x08entry_id\x18\x01 \x01(\t\x12\x0b\n\x03csr\x18\x02 \x01(\x0c"S\n\x10Ne'
    b'wWITSVIDParams\x12\x10\n\x08entry_id\x18\x01 \x01(\t\x12\x12\n\npubl'
    b'ic_key\x18\x02 \x01(\x0c\x12\x19\n\x11signing_algorithm\x18\x03 \x01(\t2'
    b'\xae\x06\n\x04SVID\x12m\n\x0cMintX509SVID\x12-.spire.api.ser'
    b'ver.svid.v1.MintX509SVIDRequest\x1a..spire.'
    b'api.server.svid.v1.MintX509SVIDResponse\x12'
    b'j\n\x0bMintJWTSVID\x12,.spire.api.server.svid.v'
    b'1.MintJWTSVIDRequest\x1a-.spire.api.server.'
    b'svid.v1.MintJWTSVIDResponse\x12j\n\x0bMintWITSV'
    b'ID\x12,.spire.api.server.svid.v1.MintWITSVI'
    b'DRequest\x1a-.spire.api.server.svid.v1.Mint'
    b'WITSVIDResponse\x12y\n\x10BatchNewX509SVID\x121.sp'
    b'ire.api.server.svid.v1.BatchNewX509SVIDR'
    b'equest\x1a2.spire.api.server.svid.v1.BatchN'
    b'ewX509SVIDResponse\x12g\n\nNewJWTSVID\x12+.spire'
    b'.api.server.svid.v1.NewJWTSVIDRequest\x1a,.'
    b'spire.api.server.svid.v1.NewJWTSVIDRespo'
    b'nse\x12v\n\x0fBatchNewWITSVID\x120.spire.api.serve'
    b'r.svid.v1.BatchNewWITSVIDRequest\x1a1.spire'
    b'.api.server.svid.v1.BatchNewWITSVIDRespo'
    b'nse\x12\x82\x01\n\x13NewDownstreamX509CA\x124.spire.api.'
    b'server.svid.v1.NewDownstreamX509CAReques'
    b't\x1a5.spire.api.server.svid.v1.NewDownstre'
    b'amX509CAResponseb\x06proto3'
)
MintX509SVIDRequest = _pool.message_class("spire.api.server.svid.v1.MintX509SVIDRequest", __name__)
MintX509SVIDResponse = _pool.message_class("spire.api.server.svid.v1.MintX509SVIDResponse", __name__)
MintWITSVIDRequest = _pool.message_class("spire.api.server.svid.v1.MintWITSVIDRequest", __name__)
MintWITSVIDResponse = _pool.message_class("spire.api.server.svid.v1.MintWITSVIDResponse", __name__)
MintJWTSVIDRequest = _pool.message_class("spire.api.server.svid.v1.MintJWTSVIDRequest", __name__)
MintJWTSVIDResponse = _pool.message_class("spire.api.server.svid.v1.MintJWTSVIDResponse", __name__)
BatchNewX509SVIDRequest = _pool.message_class("spire.api.server.svid.v1.BatchNewX509SVIDRequest", __name__)
BatchNewX509SVIDResponse = _pool.message_class("spire.api.server.svid.v1.BatchNewX509SVIDResponse", __name__)
NewJWTSVIDRequest = _pool.message_class("spire.api.server.svid.v1.NewJWTSVIDRequest", __name__)
BatchNewWITSVIDRequest = _pool.message_class("spire.api.server.svid.v1.BatchNewWITSVIDRequest", __name__)
BatchNewWITSVIDResponse = _pool.message_class("spire.api.server.svid.v1.BatchNewWITSVIDResponse", __name__)
NewJWTSVIDResponse = _pool.message_class("spire.api.server.svid.v1.NewJWTSVIDResponse", __name__)
NewDownstreamX509CARequest = _pool.message_class("spire.api.server.svid.v1.NewDownstreamX509CARequest", __name__)
NewDownstreamX509CAResponse = _pool.message_class("spire.api.server.svid.v1.NewDownstreamX509CAResponse", __name__)
NewX509SVIDParams = _pool.message_class("spire.api.server.svid.v1.NewX509SVIDParams", __name__)
NewWITSVIDParams = _pool.message_class("spire.api.server.svid.v1.NewWITSVIDParams", __name__)
