"""Written by authsec_sdk.proto.generate: messages, their types and stubs."""
