"""Reads PostgreSQL's connection strings: `keyword=value` pairs and URLs, as libpq documents both.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING

The environment (`PGHOST` and its like), service files and the user's own password file are not looked at: what a
server does is told by its configuration alone.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from icp_server.domain.postgres_settings import DEFAULT_PORT, PostgresSettings, PostgresTLS, TLSMode

SCHEMES: Final = ("postgresql://", "postgres://")

KEYWORDS: Final = frozenset(
    {
        "host", "port", "dbname", "user", "password", "passfile", "connect_timeout", "application_name",
        "sslmode", "sslrootcert", "sslcert", "sslkey",
    }
)  # fmt: skip
_REFUSED: Final = {
    "hostaddr": "name the address as host",
    "service": "service files are not read: write the parameters themselves",
    "options": "settings of a session are the server's own",
    "target_session_attrs": "of several hosts, the one that can be written is always taken",
    "channel_binding": "use sslmode=verify-full, which leaves nobody in between",
    "gssencmode": "Kerberos encryption is not spoken: use sslmode",
    "krbsrvname": "Kerberos is not spoken: use a password or a client certificate",
    "sslpassword": "keep the key in a file that only this server can read",
    "sslcrl": "revocation lists are not read",
    "binary_parameters": "is of another driver and not needed",
    "default_query_exec_mode": "is of another driver and not needed",
    "pool_max_conns": "use max_open_conns",
}


class ConnectionStringError(ValueError):
    """A connection string that says what is not understood or not honoured. Never shows the text, which has secrets."""


@dataclass(frozen=True, slots=True)
class _Parts:
    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    rest: Mapping[str, str]


def parse_connection_string(text: str) -> PostgresSettings:
    """Read one of either form.

    Raises:
        ConnectionStringError: it does not parse, or a keyword is unknown or not honoured.
    """
    parts = _of_url(text) if text.startswith(SCHEMES) else _of_pairs(text)
    values = parts.rest
    for keyword in values:
        _check_keyword(keyword)
    user = values.get("user", "")
    if not user:
        raise ConnectionStringError("names no user")
    database = values.get("dbname") or user
    hosts = _hosts(parts.hosts, parts.ports)
    settings = PostgresSettings(
        hosts=hosts,
        user=user,
        database=database,
        password=values.get("password", ""),
        password_file=_path(values, "passfile"),
        tls=_tls(values, hosts),
    )
    if values.get("connect_timeout"):
        settings = replace(settings, connect_timeout=_seconds(values["connect_timeout"], settings.connect_timeout))
    if values.get("application_name"):
        settings = replace(settings, application_name=values["application_name"])
    return settings


def _check_keyword(keyword: str) -> None:
    if keyword in KEYWORDS:
        return
    if keyword in _REFUSED:
        raise ConnectionStringError(f"keyword {keyword!r} is not supported: {_REFUSED[keyword]}")
    near = difflib.get_close_matches(keyword, KEYWORDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConnectionStringError(f"keyword {keyword[:40]!r} is unknown{hint}")


# --- keyword=value ---------------------------------------------------------------------------------------------------


def _of_pairs(text: str) -> _Parts:
    values: dict[str, str] = {}
    rest = text.strip()
    while rest:
        keyword, equals, rest = rest.partition("=")
        keyword = keyword.strip()
        if not equals or not keyword or any(character.isspace() for character in keyword):
            raise ConnectionStringError("is not a list of keyword=value pairs: a keyword has no '=' after it")
        value, rest = _value(rest.lstrip())
        values[keyword] = value
        rest = rest.lstrip()
    hosts = tuple(values.pop("host", "").split(","))
    return _Parts(hosts, tuple(values.pop("port", "").split(",")), values)


def _value(text: str) -> tuple[str, str]:
    """Split off one value, quoted or not; a backslash takes the next character as it is."""
    quoted = text.startswith("'")
    found: list[str] = []
    position = 1 if quoted else 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
            if position == len(text):
                raise ConnectionStringError("ends in a backslash")
            found.append(text[position])
        elif (quoted and character == "'") or (not quoted and character.isspace()):
            after = text[position + 1 :]
            if quoted and after and not after[0].isspace():
                raise ConnectionStringError("has text right behind a quoted value")
            return "".join(found), after
        else:
            found.append(character)
        position += 1
    if quoted:
        raise ConnectionStringError("has a quoted value without an end")
    return "".join(found), ""


# --- URLs ------------------------------------------------------------------------------------------------------------


def _of_url(text: str) -> _Parts:
    rest = text.partition("://")[2]
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    userinfo, at, places = authority.rpartition("@")
    values: dict[str, str] = {}
    if at:
        user, colon, password = userinfo.partition(":")
        values["user"] = _decoded(user)
        if colon:
            values["password"] = _decoded(password)
    if database:
        values["dbname"] = _decoded(database)
    for pair in filter(None, query.split("&")):
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise ConnectionStringError(f"has the parameter {keyword[:40]!r} without a value")
        values[_decoded(keyword)] = _decoded(value)
    pairs = [_place(place) for place in places.split(",")]
    hosts, ports = tuple(host for host, _ in pairs), tuple(port for _, port in pairs)
    if "host" in values:
        hosts = tuple(values.pop("host").split(","))
        ports = ("",) if len(hosts) != len(ports) else ports
    if "port" in values:
        ports = tuple(values.pop("port").split(","))
    return _Parts(hosts, ports, values)


def _place(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ConnectionStringError("has a malformed IPv6 address")
        return _decoded(host), port[1:]
    host, _, port = text.partition(":")
    return _decoded(host), port


def _decoded(text: str) -> str:
    if "%00" in text:
        raise ConnectionStringError("has a zero byte")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConnectionStringError("has percent signs that encode no text") from None


# --- values ----------------------------------------------------------------------------------------------------------


def _hosts(hosts: tuple[str, ...], ports: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ConnectionStringError(f"names {len(hosts)} hosts and {len(ports)} ports")
    return tuple((host or "localhost", _port(port)) for host, port in zip(hosts, ports, strict=True))


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536:
        return int(text)
    raise ConnectionStringError(f"port {text[:20]!r} is no port")


def _tls(values: Mapping[str, str], hosts: tuple[tuple[str, int], ...]) -> PostgresTLS:
    try:
        mode = TLSMode(values.get("sslmode") or TLSMode.PREFER.value)
    except ValueError:
        known = ", ".join(each.value for each in TLSMode)
        raise ConnectionStringError(f"sslmode {values['sslmode'][:20]!r} is unknown (there are: {known})") from None
    if all(host.startswith("/") for host, _ in hosts):
        mode = TLSMode.DISABLE  # as libpq: no TLS on Unix sockets
    return PostgresTLS(mode, _path(values, "sslrootcert"), _path(values, "sslcert"), _path(values, "sslkey"))


def _path(values: Mapping[str, str], keyword: str) -> Path | None:
    return Path(values[keyword]) if values.get(keyword) else None


def _seconds(text: str, default: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ConnectionStringError(f"connect_timeout {text[:20]!r} is no number of seconds")
    return seconds or default
