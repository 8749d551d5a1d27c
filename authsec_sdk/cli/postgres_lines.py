"""What PostgreSQL's files have to say so that a SPIFFE ID is a role: pure text, in and out.

PostgreSQL reads a client's name from the subject of its certificate and never from the URI. So a SPIFFE ID is known by
what SPIRE's ``uniqueid`` credential composer puts into the subject of its SVIDs (x500UniqueIdentifier, OID 2.5.4.45:
the first 16 bytes of the ID's SHA-256, as hex), or a registration entry by its first DNS name, which is the CN.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import SpiffeID

__all__ = [
    "By",
    "Mapping",
    "Registered",
    "hba_lines",
    "ident_lines",
    "parse_mapping",
    "replace_block",
    "roles_lost",
    "settings_lines",
    "still_registered",
    "unique_identifier",
]

By = Literal["id", "dns"]

_MAP_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Stricter than PostgreSQL: no quotes, no backslash, and none of the first characters that mean something in its files.
_ROLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$.@-]{0,62}")
_DNS_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_MAX_COMMON_NAME: Final = 64
_DATABASE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Who becomes which role: `who` is a SPIFFE ID, or a DNS name."""

    who: SpiffeID | str
    role: str


@dataclass(frozen=True, slots=True)
class Registered:
    """What of a registration entry says who may come. `expires_at` is a Unix time, 0 for never."""

    spiffe_id: SpiffeID
    dns_names: tuple[str, ...]
    expires_at: int


def unique_identifier(spiffe_id: SpiffeID) -> str:
    """Return the x500UniqueIdentifier that SPIRE's ``uniqueid`` composer gives an ID."""
    return hashlib.sha256(str(spiffe_id).encode()).hexdigest()[:32]


def parse_mapping(text: str, by: By) -> Mapping:
    """Read ``spiffe://example.org/billing=billing``, or ``billing.db.example=billing``.

    Raises:
        ConfigurationError: it is not of that form, or the role is one that these files cannot safely name.
        InvalidSpiffeIDError: the ID is none.
    """
    who, equals, role = text.rpartition("=")
    if not equals:
        raise ConfigurationError(f"{text!r}: want SPIFFE_ID=ROLE, or DNS_NAME=ROLE with --by dns")
    if not _ROLE.fullmatch(role):
        raise ConfigurationError(f"role {role!r}: want letters, digits and _ $ . @ - only, beginning with a letter")
    if by == "id":
        return Mapping(SpiffeID.parse(who), role)
    if not _DNS_NAME.fullmatch(who) or len(who) > _MAX_COMMON_NAME:
        raise ConfigurationError(f"DNS name {who!r}: want one in lower case, of {_MAX_COMMON_NAME} characters at most")
    return Mapping(who, role)


def hba_lines(by: By, map_name: str, databases: Sequence[str], addresses: Sequence[str]) -> list[str]:
    """Return the lines of pg_hba.conf that let certificates in, and nobody without one over TCP from there.

    Raises:
        ConfigurationError: a name or address has another form than these files take unquoted.
    """
    _check_map(map_name)
    if wrong := [name for name in databases if not _DATABASE.fullmatch(name)]:
        raise ConfigurationError(f"database {wrong[0]!r}: want letters, digits and _ $ - only")
    if wrong := [address for address in addresses if not _ADDRESS.fullmatch(address)]:
        raise ConfigurationError(f"address {wrong[0]!r}: want ADDRESS/BITS, such as 10.0.0.0/8")
    kind = "DN" if by == "id" else "CN"
    names = ",".join(databases)
    return [
        line
        for address in addresses
        for line in (
            f"hostssl {names} all {address} cert clientname={kind} map={map_name}",
            f"host {names} all {address} reject",
        )
    ]


def ident_lines(map_name: str, mappings: Iterable[Mapping]) -> list[str]:
    """Return the lines of pg_ident.conf, each behind a comment that says who it is about.

    The pattern for an ID takes no backslash before the identifier: in a printed subject that would be an escaped comma,
    inside a value that somebody else may have chosen.

    Raises:
        ConfigurationError: the map's name is none.
    """
    _check_map(map_name)
    lines = []
    for mapping in mappings:
        if isinstance(mapping.who, SpiffeID):
            pattern = rf"/^([^\\]*,)?x500UniqueIdentifier={unique_identifier(mapping.who)}(,.*)?$"
        else:
            pattern = mapping.who
        lines += [f"# {mapping.who}", f'{map_name} "{pattern}" "{mapping.role}"']
    return lines


def settings_lines(svid_file: str, bundle_file: str) -> list[str]:
    """Return the lines of postgresql.conf that go with the files `authsec postgres certificate` writes."""
    return [
        "ssl = on",
        f"ssl_cert_file = '{svid_file}'",
        f"ssl_key_file = '{svid_file}'  # one file for both, so that they are never of two SVIDs",
        f"ssl_ca_file = '{bundle_file}'  # must hold no other trust domain's authorities: subjects could be forged",
        "ssl_min_protocol_version = 'TLSv1.3'",
    ]


def replace_block(text: str, map_name: str, lines: Sequence[str]) -> str:
    """Return the file's text with our block in it, replaced or appended; all else is left as it is.

    Raises:
        ConfigurationError: the block has a beginning and no end, or more than one.
    """
    before, block, after = _split(text, map_name)
    if block is None and before and not before.endswith("\n"):
        before += "\n"
    begin, end = _marks(map_name)
    return before + "\n".join([begin, *lines, end]) + "\n" + after


def roles_lost(text: str, map_name: str, lines: Sequence[str]) -> frozenset[str]:
    """Return the roles for which a line in our block of the file's text is not among the new lines.

    Raises:
        ConfigurationError: as `replace_block`.
    """
    block = _split(text, map_name)[1] or ""
    gone = {line for line in block.splitlines() if line and not line.startswith("#")} - set(lines)
    roles = {line.rstrip('"').rpartition('"')[2] for line in gone}
    return frozenset(role for role in roles if _ROLE.fullmatch(role))


def still_registered(
    mappings: Iterable[Mapping], entries: Sequence[Registered], *, now: datetime
) -> tuple[Mapping, ...]:
    """Return the mappings for which there is an entry whose time is not over."""
    valid = [entry for entry in entries if not entry.expires_at or entry.expires_at > now.timestamp()]
    known: set[SpiffeID | str] = {entry.spiffe_id for entry in valid}
    known |= {entry.dns_names[0] for entry in valid if entry.dns_names}
    return tuple(mapping for mapping in mappings if mapping.who in known)


def _check_map(name: str) -> None:
    if not _MAP_NAME.fullmatch(name):
        raise ConfigurationError(f"map {name!r}: want letters, digits and _ only, beginning with a letter")


def _marks(map_name: str) -> tuple[str, str]:
    return f"# authsec postgres map={map_name}: begin (what is written in here is replaced)", (
        f"# authsec postgres map={map_name}: end"
    )


def _split(text: str, map_name: str) -> tuple[str, str | None, str]:
    """Return what is before our block, the block's lines or None, and what is behind."""
    _check_map(map_name)
    begin, end = (f"{mark}\n" for mark in _marks(map_name))
    if begin not in text and end not in text:
        return text, None, ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ConfigurationError(
            f"the block of map {map_name} has lost one of its two marks: delete what is left of it"
        )
    before, _, rest = text.partition(begin)
    block, _, after = rest.partition(end)
    return before, block, after
