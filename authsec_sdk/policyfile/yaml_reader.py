"""YAML text into nodes that know their places: the part of YAML that every version of it reads alike.

There are no anchors, aliases, tags, merge keys, directives or further documents. A plain word which one version of YAML
takes for text and another for something else (`no`, `on`, `012`, `1:30`, a date) is refused: put it in quotes.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from authsec_sdk.authz.policy_document import Node
from authsec_sdk.authz.rules import Place
from authsec_sdk.errors import CallerError
from authsec_sdk.policyfile.json_reader import MAX_DEPTH, MAX_DIGITS, refuse

__all__ = ["read_yaml"]

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_TRUTH: Final = {"true": True, "false": False}
_EMPTY: Final = ("", "~", "null")


def read_yaml(text: str, *, fast: bool = True) -> Node:
    """Read one YAML document; with `fast` by libyaml where PyYAML has it, which is fifteen times as fast.

    Raises:
        InvalidPolicyError: it is none, or it holds what the page above refuses, a key twice in one mapping, or lists
            and mappings in each other more than twelve deep.
        CallerError: PyYAML is not installed: it comes with the extra `cli`.
    """
    try:
        import yaml
    except ImportError as error:
        raise CallerError("policies in YAML need PyYAML: install authsec-sdk[cli], or write TOML or JSON") from error
    loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if fast else yaml.SafeLoader
    try:
        return _Reader(yaml, iter(yaml.parse(text, Loader=loader))).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        refuse(f"this is no YAML: {error.problem or error.context}", None if mark is None else _place(mark))
    except yaml.YAMLError as error:
        refuse(f"this is no YAML: {str(error)[:200]}", None)


class _Reader:
    def __init__(self, yaml: Any, events: Iterator[Any]) -> None:
        self._yaml = yaml
        self._events = events
        self._resolver = yaml.resolver.Resolver()

    def document(self) -> Node:
        yaml = self._yaml
        next(self._events)  # the stream begins
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            refuse("there is no document", Place(1, 1))
        if start.version is not None or start.tags:
            refuse("directives (%YAML, %TAG) are not taken", _place(start.start_mark))
        node = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            refuse("a second document follows; put it into a file of its own", _place(after.start_mark))
        return node

    def _node(self, event: Any, depth: int) -> Node:
        yaml, place = self._yaml, _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            refuse("anchors and aliases are not taken: write it out", place)
        if event.tag is not None:
            refuse("tags are not taken", place)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event, place), place)
        if depth >= MAX_DEPTH:
            refuse("lists and mappings are nested too deeply", place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return Node(tuple(items), place)
        return Node(self._mapping(depth), place)

    def _mapping(self, depth: int) -> dict[str, tuple[Place, Node]]:
        members: dict[str, tuple[Place, Node]] = {}
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            place = _place(event.start_mark)
            if not isinstance(key.value, str):
                refuse(f"a key must be text, not {key.kind}", place)
            if key.value in members:
                refuse(f"{key.value[:80]!a} is given twice", place)
            members[key.value] = (place, self._node(next(self._events), depth + 1))
        return members

    def _scalar(self, event: Any, place: Place) -> str | int | bool | None:
        text: str = event.value
        if not event.implicit[0]:  # in quotes, or a block
            return text
        kind = self._resolver.resolve(self._yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
        if kind == "str":
            return text
        if kind == "bool" and text in _TRUTH:
            return _TRUTH[text]
        if kind == "int" and _INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
            return int(text)
        if kind != "null" or text not in _EMPTY:
            refuse(f"{text[:80]!a} is text to one version of YAML and not to another: put it in quotes", place)
        return None


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)
