"""From a file or text to a tree: decides between HCL and its JSON form, and bounds what is read."""

import os
from collections.abc import Mapping
from pathlib import Path

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl.environment import expand_environment
from authsec_sdk.hcl.json_form import parse_json
from authsec_sdk.hcl.model import Body
from authsec_sdk.hcl.parser import parse_native

MAXIMUM_SIZE = 4 << 20
"""Bytes of a configuration file; SPIRE's own have some thousands."""


def load(path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Body:
    """Read a configuration file; with `environ`, references to its variables are expanded first.

    Raises:
        ConfigurationError: the file cannot be read, is too large, is not UTF-8, or is not HCL 1.
    """
    file = os.fspath(path)
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAXIMUM_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file: {error.strerror}", file) from error
    if len(data) > MAXIMUM_SIZE:
        raise ConfigurationError(f"the configuration file is larger than {MAXIMUM_SIZE} bytes", file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError("the configuration file is not UTF-8", file, line) from None
    if environ is not None:
        text = expand_environment(text, environ)
    return parse(text, file)


def parse(text: str, file: str = "<text>") -> Body:
    """Read HCL 1, or its JSON form if the first character is `{`.

    Raises:
        ConfigurationError: with file, line and column of what is wrong.
    """
    if len(text) > MAXIMUM_SIZE:
        raise ConfigurationError(f"the configuration is larger than {MAXIMUM_SIZE} bytes", file)
    if text.lstrip()[:1] == "{":
        return parse_json(text, file)
    return parse_native(text, file)
