"""The bytes of a policy document, as YAML, TOML or JSON, into a `Policy`."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from authsec_sdk.authz import Policy
from authsec_sdk.authz.policy_document import InvalidPolicyError, Node, read_policy
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.filesource.reading import read_file
from authsec_sdk.policyfile.json_reader import Lines, read_json, refuse
from authsec_sdk.policyfile.toml_reader import read_toml
from authsec_sdk.policyfile.yaml_reader import read_yaml
from authsec_sdk.spiffe import TrustDomain

__all__ = ["MAX_BYTES", "Format", "format_of", "load_policy", "parse_policy"]

Format = Literal["yaml", "toml", "json"]

MAX_BYTES: Final = 256 * 1024

# Readers differ on which of these end a line and which end the text; a policy needs none of them.
_ODD: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)")
_READERS: Final[Mapping[str, Callable[[str], Node]]] = MappingProxyType(
    {"yaml": read_yaml, "toml": read_toml, "json": read_json}
)
_ENDINGS: Final[Mapping[str, Format]] = MappingProxyType(
    {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
)


def format_of(path: str | os.PathLike[str]) -> Format:
    """Return the format that a file's name ends with.

    Raises:
        ConfigurationError: it ends otherwise.
    """
    found = _ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        raise ConfigurationError("a policy's file name ends with .yaml, .yml, .toml or .json", str(path))
    return found


def parse_policy(data: bytes, format: Format, *, trust_domains: Collection[TrustDomain] | None = None) -> Policy:  # noqa: A002 - its name
    """Read a document of at most 256 KiB. In its rules only peers of `trust_domains` are taken, where these are given.

    Raises:
        InvalidPolicyError: it is no document of that format, or no policy; says at which line and key.
        CallerError: YAML is asked for, and PyYAML is not installed.
    """
    if len(data) > MAX_BYTES:
        refuse(f"a policy of {len(data)} bytes is longer than {MAX_BYTES}", None)
    try:
        text = bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        refuse("this is no UTF-8", Lines(data[: error.start].decode("utf-8")).place(error.start))
    if (odd := _ODD.search(text)) is not None:
        what = "a byte order mark" if odd[0] == "\ufeff" else f"the control character {odd[0]!a}"
        refuse(f"{what} has no place in a policy", Lines(text).place(odd.start()))
    return read_policy(_READERS[format](text), trust_domains=trust_domains)


def load_policy(path: str | os.PathLike[str], *, trust_domains: Collection[TrustDomain] | None = None) -> Policy:
    """Read a file once; its name says in which format. `PolicyFile` reads it again whenever it changes.

    Raises:
        InvalidPolicyError: as `parse_policy`, with the file's name.
        ConfigurationError: it is no file, too large, or its name has none of the endings.
        UnavailableError: it cannot be read.
    """
    kind = format_of(path)
    data = read_file(Path(path), MAX_BYTES)
    try:
        return parse_policy(data, kind, trust_domains=trust_domains)
    except InvalidPolicyError as error:
        raise error.at(str(path)) from None
