# Written by authsec_sdk.proto.generate from authsec_sdk/proto/reflection_v1.proto. Do not edit.
"""Messages of authsec_sdk/proto/reflection_v1.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n%authsec_sdk/proto/reflection_v1.proto\x12'
    b'\x12grpc.reflection.v1"\x85\x02\n\x17ServerReflection'
    b'Request\x12\x0c\n\x04host\x18\x01 \x01(\t\x12\x1a\n\x10file_by_filenam'
    b'e\x18\x03 \x01(\tH\x00\x12 \n\x16file_containing_symbol\x18\x04 \x01('
    b'\tH\x00\x12I\n\x19file_containing_extension\x18\x05 \x01(\x0b2$'
    b".grpc.reflection.v1.ExtensionRequestH\x00\x12'"
    b'\n\x1dall_extension_numbers_of_type\x18\x06 \x01(\tH\x00\x12'
    b'\x17\n\rlist_services\x18\x07 \x01(\tH\x00B\x11\n\x0fmessage_requ'
    b'est"E\n\x10ExtensionRequest\x12\x17\n\x0fcontaining_ty'
    b'pe\x18\x01 \x01(\t\x12\x18\n\x10extension_number\x18\x02 \x01(\x05"\xb8\x03\n\x18S'
    b'erverReflectionResponse\x12\x12\n\nvalid_host\x18\x01 '
    b'\x01(\t\x12E\n\x10original_request\x18\x02 \x01(\x0b2+.grpc.ref'
    b'lection.v1.ServerReflectionRequest\x12N\n\x18fi'
    b'le_descriptor_response\x18\x04 \x01(\x0b2*.grpc.refl'
    b'ection.v1.FileDescriptorResponseH\x00\x12U\n\x1eal'
    b'l_extension_numbers_response\x18\x05 \x01(\x0b2+.grp'
    b'c.reflection.v1.ExtensionNumberResponseH'
    b"\x00\x12I\n\x16list_services_response\x18\x06 \x01(\x0b2'.grpc"
    b'.reflection.v1.ListServiceResponseH\x00\x12;\n\x0e'
    b'error_response\x18\x07 \x01(\x0b2!.grpc.reflection.v'
    b'1.ErrorResponseH\x00B\x12\n\x10message_response"7\n'
    b'\x16FileDescriptorResponse\x12\x1d\n\x15file_descript'
    b'or_proto\x18\x01 \x03(\x0c"K\n\x17ExtensionNumberRespons'
    b'e\x12\x16\n\x0ebase_type_name\x18\x01 \x01(\t\x12\x18\n\x10extension_n'
    b'umber\x18\x02 \x03(\x05"K\n\x13ListServiceResponse\x124\n\x07se'
    b'rvice\x18\x01 \x03(\x0b2#.grpc.reflection.v1.Service'
    b'Response"\x1f\n\x0fServiceResponse\x12\x0c\n\x04name\x18\x01 \x01('
    b'\t":\n\rErrorResponse\x12\x12\n\nerror_code\x18\x01 \x01(\x05\x12\x15'
    b'\n\rerror_message\x18\x02 \x01(\t2\x89\x01\n\x10ServerReflecti'
    b'on\x12u\n\x14ServerReflectionInfo\x12+.grpc.reflec'
    b'tion.v1.ServerReflectionRequest\x1a,.grpc.r'
    b'eflection.v1.ServerReflectionResponse(\x010'
    b'\x01b\x06proto3'
)
ServerReflectionRequest = _pool.message_class("grpc.reflection.v1.ServerReflectionRequest", __name__)
ExtensionRequest = _pool.message_class("grpc.reflection.v1.ExtensionRequest", __name__)
ServerReflectionResponse = _pool.message_class("grpc.reflection.v1.ServerReflectionResponse", __name__)
FileDescriptorResponse = _pool.message_class("grpc.reflection.v1.FileDescriptorResponse", __name__)
ExtensionNumberResponse = _pool.message_class("grpc.reflection.v1.ExtensionNumberResponse", __name__)
ListServiceResponse = _pool.message_class("grpc.reflection.v1.ListServiceResponse", __name__)
ServiceResponse = _pool.message_class("grpc.reflection.v1.ServiceResponse", __name__)
ErrorResponse = _pool.message_class("grpc.reflection.v1.ErrorResponse", __name__)
