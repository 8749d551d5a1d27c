"""HCL 1, the language of SPIRE's configuration files, with the line and column of every value.

`load` or `parse` gives a `Body`; `Fields` reads a body into typed values and refuses keys nobody asked for.
docs/adr/0013-hcl-parser.md says why this is ours.
"""

from authsec_sdk.hcl.document import load, parse
from authsec_sdk.hcl.environment import expand_environment
from authsec_sdk.hcl.fields import Fields
from authsec_sdk.hcl.model import Attribute, Body, ListValue, Position, Scalar, Value

__all__ = [
    "Attribute",
    "Body",
    "Fields",
    "ListValue",
    "Position",
    "Scalar",
    "Value",
    "expand_environment",
    "load",
    "parse",
]
