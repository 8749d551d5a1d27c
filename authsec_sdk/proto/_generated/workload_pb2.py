# Written by authsec_sdk.proto.generate from authsec_sdk/proto/workload.proto. Do not edit.
"""Messages of authsec_sdk/proto/workload.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated import struct_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n authsec_sdk/proto/workload.proto\x1a\x1cgoog'
    b'le/protobuf/struct.proto"\x11\n\x0fX509SVIDRequ'
    b'est"\xb6\x01\n\x10X509SVIDResponse\x12\x18\n\x05svids\x18\x01 \x03(\x0b2'
    b'\t.X509SVID\x12\x0b\n\x03crl\x18\x02 \x03(\x0c\x12B\n\x11federated_bun'
    b"dles\x18\x03 \x03(\x0b2'.X509SVIDResponse.FederatedB"
    b'undlesEntry\x1a7\n\x15FederatedBundlesEntry\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x0c:\x028\x01"e\n\x08X509SVID'
    b'\x12\x11\n\tspiffe_id\x18\x01 \x01(\t\x12\x11\n\tx509_svid\x18\x02 \x01(\x0c\x12\x15'
    b'\n\rx509_svid_key\x18\x03 \x01(\x0c\x12\x0e\n\x06bundle\x18\x04 \x01(\x0c\x12\x0c\n'
    b'\x04hint\x18\x05 \x01(\t"\x14\n\x12X509BundlesRequest"\x86\x01\n\x13X5'
    b'09BundlesResponse\x12\x0b\n\x03crl\x18\x01 \x03(\x0c\x122\n\x07bundle'
    b's\x18\x02 \x03(\x0b2!.X509BundlesResponse.BundlesEnt'
    b'ry\x1a.\n\x0cBundlesEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value'
    b'\x18\x02 \x01(\x0c:\x028\x01"5\n\x0eJWTSVIDRequest\x12\x10\n\x08audience'
    b'\x18\x01 \x03(\t\x12\x11\n\tspiffe_id\x18\x02 \x01(\t"*\n\x0fJWTSVIDResp'
    b'onse\x12\x17\n\x05svids\x18\x01 \x03(\x0b2\x08.JWTSVID"8\n\x07JWTSVID'
    b'\x12\x11\n\tspiffe_id\x18\x01 \x01(\t\x12\x0c\n\x04svid\x18\x02 \x01(\t\x12\x0c\n\x04hin'
    b't\x18\x03 \x01(\t"\x13\n\x11JWTBundlesRequest"w\n\x12JWTBundl'
    b'esResponse\x121\n\x07bundles\x18\x01 \x03(\x0b2 .JWTBundles'
    b'Response.BundlesEntry\x1a.\n\x0cBundlesEntry\x12\x0b\n'
    b'\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x0c:\x028\x01"8\n\x16Validat'
    b'eJWTSVIDRequest\x12\x10\n\x08audience\x18\x01 \x01(\t\x12\x0c\n\x04svi'
    b'd\x18\x02 \x01(\t"U\n\x17ValidateJWTSVIDResponse\x12\x11\n\tsp'
    b"iffe_id\x18\x01 \x01(\t\x12'\n\x06claims\x18\x02 \x01(\x0b2\x17.google.p"
    b'rotobuf.Struct"#\n\x0eWITSVIDRequest\x12\x11\n\tspif'
    b'fe_id\x18\x01 \x01(\t"*\n\x0fWITSVIDResponse\x12\x17\n\x05svids\x18'
    b'\x01 \x03(\x0b2\x08.WITSVID"R\n\x07WITSVID\x12\x11\n\tspiffe_id\x18'
    b'\x01 \x01(\t\x12\x10\n\x08wit_svid\x18\x02 \x01(\t\x12\x14\n\x0cwit_svid_key\x18'
    b'\x03 \x01(\t\x12\x0c\n\x04hint\x18\x04 \x01(\t"\x13\n\x11WITBundlesRequest'
    b'"w\n\x12WITBundlesResponse\x121\n\x07bundles\x18\x01 \x03(\x0b2'
    b' .WITBundlesResponse.BundlesEntry\x1a.\n\x0cBun'
    b'dlesEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028'
    b'\x012\xb6\x03\n\x11SpiffeWorkloadAPI\x126\n\rFetchX509SVID'
    b'\x12\x10.X509SVIDRequest\x1a\x11.X509SVIDResponse0\x01\x12'
    b'?\n\x10FetchX509Bundles\x12\x13.X509BundlesRequest'
    b'\x1a\x14.X509BundlesResponse0\x01\x121\n\x0cFetchJWTSVID'
    b'\x12\x0f.JWTSVIDRequest\x1a\x10.JWTSVIDResponse\x12<\n\x0fF'
    b'etchJWTBundles\x12\x12.JWTBundlesRequest\x1a\x13.JWT'
    b'BundlesResponse0\x01\x12D\n\x0fValidateJWTSVID\x12\x17.V'
    b'alidateJWTSVIDRequest\x1a\x18.ValidateJWTSVIDR'
    b'esponse\x123\n\x0cFetchWITSVID\x12\x0f.WITSVIDRequest'
    b'\x1a\x10.WITSVIDResponse0\x01\x12<\n\x0fFetchWITBundles\x12'
    b'\x12.WITBundlesRequest\x1a\x13.WITBundlesResponse'
    b'0\x01b\x06proto3'
)
X509SVIDRequest = _pool.message_class("X509SVIDRequest", __name__)
X509SVIDResponse = _pool.message_class("X509SVIDResponse", __name__)
X509SVID = _pool.message_class("X509SVID", __name__)
X509BundlesRequest = _pool.message_class("X509BundlesRequest", __name__)
X509BundlesResponse = _pool.message_class("X509BundlesResponse", __name__)
JWTSVIDRequest = _pool.message_class("JWTSVIDRequest", __name__)
JWTSVIDResponse = _pool.message_class("JWTSVIDResponse", __name__)
JWTSVID = _pool.message_class("JWTSVID", __name__)
JWTBundlesRequest = _pool.message_class("JWTBundlesRequest", __name__)
JWTBundlesResponse = _pool.message_class("JWTBundlesResponse", __name__)
ValidateJWTSVIDRequest = _pool.message_class("ValidateJWTSVIDRequest", __name__)
ValidateJWTSVIDResponse = _pool.message_class("ValidateJWTSVIDResponse", __name__)
WITSVIDRequest = _pool.message_class("WITSVIDRequest", __name__)
WITSVIDResponse = _pool.message_class("WITSVIDResponse", __name__)
WITSVID = _pool.message_class("WITSVID", __name__)
WITBundlesRequest = _pool.message_class("WITBundlesRequest", __name__)
WITBundlesResponse = _pool.message_class("WITBundlesResponse", __name__)
