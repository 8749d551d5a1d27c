"""A policy document, parsed into plain data with places, into a `Policy`: strict, and every error says where; pure.

    document = { version: 1, rules: [rule, …] }
    rule     = { name, allow | deny: peers, note?, and of what it speaks: http?, grpc?, database?, everything? }
    peers    = text or list: "spiffe://example.org/web", "spiffe://example.org/ns/*/sa/web", "example.org"
    http     = one or a list of { paths: text or list, methods?: text or list }
    grpc     = text or list: "/package.Service/Method", "/package.Service/*", "/*"
    database = one or a list of { names: text or list or "*", roles: text or list or "*" }

Keys that are not named here are refused: a word misspelt must not leave a rule that says something else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from authsec_sdk.authz.policy import Policy
from authsec_sdk.authz.request import METHOD, NAME, RPC
from authsec_sdk.authz.route_pattern import RoutePattern
from authsec_sdk.authz.rules import DatabaseScope, Effect, GRPCScope, HTTPScope, PeerPattern, Place, Rule, parse_peer
from authsec_sdk.authz.rules import Scope as RuleScope
from authsec_sdk.errors import CallerError, ConfigurationError
from authsec_sdk.spiffe.ids import TrustDomain

__all__ = ["InvalidPolicyError", "Node", "Problem", "read_policy"]

MAX_PROBLEMS: Final = 20

_RULE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVICE: Final = re.compile(r"/(?:[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*/)?\*")
_KINDS: Final = {str: "text", int: "a number", float: "a number", tuple: "a list", type(None): "nothing"}
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document and where it stands. Mappings keep the place of each key."""

    value: str | int | float | bool | tuple[Node, ...] | Mapping[str, tuple[Place, Node]] | None
    place: Place | None

    @property
    def kind(self) -> str:
        """What it is, in words for people."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        names: dict[type, str] = {
            str: "text",
            int: "a number",
            float: "a number",
            tuple: "a list",
            type(None): "nothing",
        }
        return names.get(type(self.value), "a mapping")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document: at which key (`rules[2].http.paths[0]`), where, and what."""

    key: str
    message: str
    place: Place | None

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class InvalidPolicyError(ConfigurationError):
    """A document is no policy. `problems` are the first twenty; the text has the first, with its file and line."""

    def __init__(self, problems: tuple[Problem, ...], file: str | None = None) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        line, column = (None, None) if first.place is None else (first.place.line, first.place.column)
        super().__init__(f"{first}{more}", file, line, column)
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return (InvalidPolicyError, (self.problems, self.file))

    def at(self, file: str) -> InvalidPolicyError:
        """Return the same, of a file."""
        return InvalidPolicyError(self.problems, file)


def read_policy(document: Node, *, trust_domains: Collection[TrustDomain] | None = None) -> Policy:
    """Return what a document says. A rule of a peer outside of `trust_domains` is refused, where these are given.

    Raises:
        InvalidPolicyError: it breaks a rule of the page above. Nothing of it is taken.
    """
    reader = _Reader(None if trust_domains is None else frozenset(trust_domains))
    rules = reader.document(document)
    if reader.problems:
        raise InvalidPolicyError(tuple(reader.problems))
    return Policy(rules)


class _Reader:
    """Goes through a document and notes what is wrong, instead of stopping at the first thing."""

    def __init__(self, trust_domains: frozenset[TrustDomain] | None) -> None:
        self.problems: list[Problem] = []
        self._trust_domains = trust_domains

    def document(self, node: Node) -> list[Rule]:
        keys = self._mapping("", node, required=("version", "rules"))
        if keys is None or "version" not in keys or "rules" not in keys:
            return []
        version = keys["version"].value
        if type(version) is not int or version != 1:
            self._note("version", keys["version"].place, "want 1")
        value = keys["rules"].value
        if not isinstance(value, tuple):
            self._note("rules", keys["rules"].place, f"want a list of rules, not {keys['rules'].kind}")
            return []
        rules: dict[str, Rule] = {}
        for index, each in enumerate(value):
            rule = self._rule(f"rules[{index}]", each)
            if rule is None:
                continue
            if rule.name in rules:
                self._note(f"rules[{index}].name", rule.place, f"{rule.name!r} is the name of another rule already")
            rules[rule.name] = rule
        return list(rules.values())

    def _rule(self, key: str, node: Node) -> Rule | None:
        before = len(self.problems)
        keys = self._mapping(
            key, node, required=("name",), optional=("allow", "deny", "note", "http", "grpc", "database", "everything")
        )
        if keys is None:
            return None
        name = self._name(f"{key}.name", keys.get("name"))
        if (note := keys.get("note")) is not None and not isinstance(note.value, str):
            self._note(f"{key}.note", note.place, f"want text, not {note.kind}")
        effects: list[Effect] = [effect for effect in ("allow", "deny") if effect in keys]
        if len(effects) != 1:
            self._note(key, node.place, "want either allow or deny" + (", not both" if effects else ""))
            return None
        peers = self._each(f"{key}.{effects[0]}", keys[effects[0]], self._peer)
        scopes = self._scopes(key, node, keys)
        if len(self.problems) > before or name is None:
            return None
        return Rule(name, effects[0], frozenset(peers), scopes, node.place)

    def _name(self, key: str, node: Node | None) -> str | None:
        if node is None:
            return None  # noted as missing
        if isinstance(node.value, str) and _RULE_NAME.fullmatch(node.value):
            return node.value
        seen = repr(node.value[:80]) if isinstance(node.value, str) else node.kind
        self._note(key, node.place, f"want up to 64 letters, digits and . _ -, not {seen}")
        return None

    def _peer(self, text: str) -> PeerPattern:
        peer = parse_peer(text)
        domain = peer if isinstance(peer, TrustDomain) else peer.trust_domain
        if self._trust_domains is not None and domain not in self._trust_domains:
            allowed = ", ".join(str(each) for each in sorted(self._trust_domains))
            raise CallerError(f"{text!r} is outside of the trust domains that the program takes rules for: {allowed}")
        return peer

    # --- of what a rule speaks ---------------------------------------------------------------------------------------

    def _scopes(self, key: str, node: Node, keys: Mapping[str, Node]) -> frozenset[RuleScope] | None:
        scopes: list[RuleScope] = []
        if "http" in keys:
            scopes += self._some(f"{key}.http", keys["http"], self._http)
        if "grpc" in keys:
            methods = frozenset(self._each(f"{key}.grpc", keys["grpc"], _grpc_pattern))
            scopes.append(GRPCScope(methods))
        if "database" in keys:
            scopes += self._some(f"{key}.database", keys["database"], self._database)
        everything = keys.get("everything")
        if everything is None:
            if not {"http", "grpc", "database"} & keys.keys():
                self._note(key, node.place, "want of what it speaks: http, grpc, database, or everything: true")
            return frozenset(scopes)
        if everything.value is not True:
            self._note(f"{key}.everything", everything.place, f"want true, or no such key, not {everything.kind}")
        if {"http", "grpc", "database"} & keys.keys():
            self._note(f"{key}.everything", everything.place, "leave out http, grpc and database, or this")
        return None

    def _http(self, key: str, node: Node) -> HTTPScope | None:
        keys = self._mapping(key, node, required=("paths",), optional=("methods",))
        if keys is None or "paths" not in keys:
            return None
        paths = self._each(f"{key}.paths", keys["paths"], RoutePattern.parse)
        methods = None
        if "methods" in keys:
            methods = frozenset(self._each(f"{key}.methods", keys["methods"], _method))
        return HTTPScope(frozenset(paths), methods)

    def _database(self, key: str, node: Node) -> DatabaseScope | None:
        keys = self._mapping(key, node, required=("names", "roles"))
        if keys is None or not keys.keys() >= {"names", "roles"}:
            return None
        names, roles = (self._names_or_any(f"{key}.{each}", keys[each]) for each in ("names", "roles"))
        return DatabaseScope(names, roles)

    def _names_or_any(self, key: str, node: Node) -> frozenset[str] | None:
        return None if node.value == "*" else frozenset(self._each(key, node, _database_name))

    # --- plain data --------------------------------------------------------------------------------------------------

    def _mapping(
        self, key: str, node: Node, *, required: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, Node] | None:
        if not isinstance(node.value, Mapping):
            self._note(key, node.place, f"want a mapping with {' and '.join(required)}, not {node.kind}")
            return None
        for name in required:
            if name not in node.value:
                self._note(key, node.place, f"{name} is missing")
        found = {}
        for name, (place, value) in node.value.items():
            if name in required or name in optional:
                found[name] = value
                continue
            close = difflib.get_close_matches(name[:40], [*required, *optional], n=1)
            hint = f"; do you mean {close[0]}?" if close else f"; there are {', '.join([*required, *optional])}"
            shown = name if _PLAIN_KEY.fullmatch(name) else ascii(name[:40])
            self._note(f"{key}.{shown}" if key else shown, place, f"there is no such key{hint}")
        return found

    def _items(self, key: str, node: Node) -> Iterator[tuple[str, Node]]:
        """Yield one value, or each of a list that holds at least one."""
        if not isinstance(node.value, tuple):
            yield key, node
            return
        if not node.value:
            self._note(key, node.place, "want at least one, or no such key")
        for index, each in enumerate(node.value):
            yield f"{key}[{index}]", each

    def _some(self, key: str, node: Node, read: Callable[[str, Node], T | None]) -> list[T]:
        return [found for at, each in self._items(key, node) if (found := read(at, each)) is not None]

    def _each(self, key: str, node: Node, parse: Callable[[str], T]) -> list[T]:
        found = []
        for at, each in self._items(key, node):
            if not isinstance(each.value, str):
                self._note(at, each.place, f"want text, not {each.kind}")
                continue
            try:
                found.append(parse(each.value))
            except CallerError as error:
                self._note(at, each.place, str(error))
        return found

    def _note(self, key: str, place: Place | None, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(key, message, place))


def _method(text: str) -> str:
    if METHOD.fullmatch(text) and text != "*":
        return text
    raise CallerError(f"{text[:80]!r} is no HTTP method: write it in upper case, and leave methods out for all")


def _grpc_pattern(text: str) -> str:
    if RPC.fullmatch(text) or _SERVICE.fullmatch(text):
        return text
    raise CallerError(f"{text[:80]!r}: want /package.Service/Method, /package.Service/* or /*")


def _database_name(text: str) -> str:
    if NAME.fullmatch(text):
        return text
    raise CallerError(f"{text[:80]!r}: want a letter, then letters, digits and _ $ . @ -; or * by itself")
