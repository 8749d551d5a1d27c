"""SPIRE's server API over gRPC: a module decodes messages, calls a use case and encodes the answer."""
