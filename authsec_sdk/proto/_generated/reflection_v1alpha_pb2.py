# Written by authsec_sdk.proto.generate from authsec_sdk/proto/reflection_v1alpha.proto. Do not edit.
"""Messages of authsec_sdk/proto/reflection_v1alpha.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n*authsec_sdk/proto/reflection_v1alpha.p'
    b'roto\x12\x17grpc.reflection.v1alpha"\x8a\x02\n\x17Server'
    b'ReflectionRequest\x12\x0c\n\x04host\x18\x01 \x01(\t\x12\x1a\n\x10file_'
    b'by_filename\x18\x03 \x01(\tH\x00\x12 \n\x16file_containing_s'
    b'ymbol\x18\x04 \x01(\tH\x00\x12N\n\x19file_containing_extensi'
    b'on\x18\x05 \x01(\x0b2).grpc.reflection.v1alpha.Exten'
    b"sionRequestH\x00\x12'\n\x1dall_extension_numbers_o"
    b'f_type\x18\x06 \x01(\tH\x00\x12\x17\n\rlist_services\x18\x07 \x01(\tH\x00B'
    b'\x11\n\x0fmessage_request"E\n\x10ExtensionRequest\x12\x17'
    b'\n\x0fcontaining_type\x18\x01 \x01(\t\x12\x18\n\x10extension_num'
    b'ber\x18\x02 \x01(\x05"\xd1\x03\n\x18ServerReflectionResponse\x12\x12'
    b'\n\nvalid_host\x18\x01 \x01(\t\x12J\n\x10original_request\x18\x02'
    b' \x01(\x0b20.grpc.reflection.v1alpha.ServerRef'
    b'lectionRequest\x12S\n\x18file_descriptor_respon'
    b'se\x18\x04 \x01(\x0b2/.grpc.reflection.v1alpha.FileD'
    b'escriptorResponseH\x00\x12Z\n\x1eall_extension_num'
    b'bers_response\x18\x05 \x01(\x0b20.grpc.reflection.v1'
    b'alpha.ExtensionNumberResponseH\x00\x12N\n\x16list_'
    b'services_response\x18\x06 \x01(\x0b2,.grpc.reflectio'
    b'n.v1alpha.ListServiceResponseH\x00\x12@\n\x0eerror'
    b'_response\x18\x07 \x01(\x0b2&.grpc.reflection.v1alph'
    b'a.ErrorResponseH\x00B\x12\n\x10message_response"7\n'
    b'\x16FileDescriptorResponse\x12\x1d\n\x15file_descript'
    b'or_proto\x18\x01 \x03(\x0c"K\n\x17ExtensionNumberRespons'
    b'e\x12\x16\n\x0ebase_type_name\x18\x01 \x01(\t\x12\x18\n\x10extension_n'
    b'umber\x18\x02 \x03(\x05"P\n\x13ListServiceResponse\x129\n\x07se'
    b'rvice\x18\x01 \x03(\x0b2(.grpc.reflection.v1alpha.Se'
    b'rviceResponse"\x1f\n\x0fServiceResponse\x12\x0c\n\x04name'
    b'\x18\x01 \x01(\t":\n\rErrorResponse\x12\x12\n\nerror_code\x18\x01 '
    b'\x01(\x05\x12\x15\n\rerror_message\x18\x02 \x01(\t2\x93\x01\n\x10ServerRef'
    b'lection\x12\x7f\n\x14ServerReflectionInfo\x120.grpc.r'
    b'eflection.v1alpha.ServerReflectionReques'
    b't\x1a1.grpc.reflection.v1alpha.ServerReflec'
    b'tionResponse(\x010\x01b\x06proto3'
)
ServerReflectionRequest = _pool.message_class("grpc.reflection.v1alpha.ServerReflectionRequest", __name__)
ExtensionRequest = _pool.message_class("grpc.reflection.v1alpha.ExtensionRequest", __name__)
ServerReflectionResponse = _pool.message_class("grpc.reflection.v1alpha.ServerReflectionResponse", __name__)
FileDescriptorResponse = _pool.message_class("grpc.reflection.v1alpha.FileDescriptorResponse", __name__)
ExtensionNumberResponse = _pool.message_class("grpc.reflection.v1alpha.ExtensionNumberResponse", __name__)
ListServiceResponse = _pool.message_class("grpc.reflection.v1alpha.ListServiceResponse", __name__)
ServiceResponse = _pool.message_class("grpc.reflection.v1alpha.ServiceResponse", __name__)
ErrorResponse = _pool.message_class("grpc.reflection.v1alpha.ErrorResponse", __name__)
