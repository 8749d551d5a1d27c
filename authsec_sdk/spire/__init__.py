"""What a SPIRE server and a SPIRE agent both mean by their words: selectors, entries, reserved IDs, renewal, the wire.

Pure but for `wire`, which knows protobuf so that nobody else has to. Import from the modules themselves.
"""
