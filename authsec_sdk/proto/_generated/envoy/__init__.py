"""Written by authsec_sdk.proto.generate."""
