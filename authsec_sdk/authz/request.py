"""What a peer asks for, as a value that policies judge: an HTTP request, a gRPC call, or a role in a database; pure.

Making one never fails. What could be read in two ways carries a `fault`, and every policy refuses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from authsec_sdk.authz.route_pattern import path_fault

__all__ = ["METHOD", "NAME", "RPC", "Request", "RequestKind"]

RequestKind = Literal["http", "grpc", "database"]

# A token of RFC 9110 section 5.6.2 without lower case: methods are case-sensitive, and not every router knows.
METHOD: Final = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]{1,32}")
RPC: Final = re.compile(r"/[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")
# A database or role that needs no quotes in any of PostgreSQL's files.
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$.@-]{0,62}")


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked for. Make it with `http`, `grpc` or `database`."""

    kind: RequestKind
    target: str
    """The decoded path, `/package.Service/Method`, or the database's name."""
    action: str = ""
    """The HTTP method, nothing, or the role."""
    fault: str = ""
    """Why this could be read in two ways; empty if it cannot."""

    @classmethod
    def http(cls, method: str, path: str, raw_path: str | None = None) -> Request:
        """Return an HTTP request: its method as sent, its percent-decoded path, its path as sent where that is known.

        A websocket is the GET that opens it (RFC 6455 section 4.1), whatever the version of HTTP.
        """
        fault = "" if METHOD.fullmatch(method) else "its method is no token in upper case"
        return cls("http", path, method, fault or path_fault(path, raw_path))

    @classmethod
    def grpc(cls, method: str) -> Request:
        """Return a gRPC call of `/package.Service/Method`."""
        return cls("grpc", method, "", "" if RPC.fullmatch(method) else "its method is no /package.Service/Method")

    @classmethod
    def database(cls, name: str, role: str) -> Request:
        """Return a session in a database under a role."""
        odd = next((text for text in (name, role) if not NAME.fullmatch(text)), None)
        return cls("database", name, role, "" if odd is None else "a name would need quotes")

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of an HTTP path; one slash at its end says nothing."""
        segments = tuple(self.target.split("/")[1:])
        return segments[:-1] if segments and not segments[-1] else segments

    def __str__(self) -> str:
        if self.kind == "http":
            return f"{self.action!a} {self.target!a}" if self.fault else f"{self.action} {self.target!a}"
        if self.kind == "grpc":
            return f"call of {self.target!a}"
        return f"role {self.action!a} in database {self.target!a}"
