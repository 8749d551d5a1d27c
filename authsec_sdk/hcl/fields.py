"""Reads a block into typed values; keys nobody asked for, and values of the wrong kind, are errors with a place."""

import difflib
from collections.abc import Iterable
from datetime import timedelta
from typing import Self

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl.durations import parse_duration
from authsec_sdk.hcl.model import Attribute, Body, ListValue, Position, Scalar, Value


class Fields:
    """A block, or several of one name taken together, read key by key.

    Asking for a key declares it. `finish`, or leaving the `with` block, refuses every key that was not asked for and
    names the nearest one that was. Keys are compared without regard to case, as in HCL 1. Conversions are those of
    HCL 1: a number stands for a text and the text of a whole number for a number; a boolean is only `true` or `false`.
    Every reader raises ConfigurationError where a value is of another kind or set twice.

        with Fields(body, "agent") as agent:
            trust_domain = agent.text("trust_domain")
            bootstrap = agent.boolean("insecure_bootstrap") or False
    """

    def __init__(self, bodies: Body | Iterable[Body], where: str) -> None:
        self.where = where
        self._bodies = (bodies,) if isinstance(bodies, Body) else tuple(bodies)
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()

    @property
    def position(self) -> Position:
        """Where the (first) block begins."""
        return self._bodies[0].position if self._bodies else Position(1, 1)

    def has(self, key: str) -> bool:
        """Whether the key stands there at all."""
        return bool(self._find(key))

    def text(self, key: str) -> str | None:
        """A text, or None if the key is not there."""
        found = self._scalar(key, "a string")
        if found is None:
            return None
        body, scalar = found
        if isinstance(scalar.value, bool):
            raise body.error(f"{key!r} in {self.where} must be a string, not a boolean", scalar.position)
        return scalar.text

    def boolean(self, key: str) -> bool | None:
        """A boolean, or None if the key is not there."""
        found = self._scalar(key, "a boolean")
        if found is None:
            return None
        body, scalar = found
        if not isinstance(scalar.value, bool):
            hint = " (without quotes)" if scalar.text in ("true", "false") else ""
            raise body.error(f"{key!r} in {self.where} must be true or false{hint}, not {scalar.kind}", scalar.position)
        return scalar.value

    def integer(self, key: str, *, minimum: int | None = None, maximum: int | None = None) -> int | None:
        """A whole number within bounds, or None if the key is not there."""
        found = self._scalar(key, "a whole number")
        if found is None:
            return None
        body, scalar = found
        number = _whole_number(scalar)
        if number is None:
            raise body.error(f"{key!r} in {self.where} must be a whole number, not {scalar.text!r}", scalar.position)
        if minimum is not None and number < minimum:
            raise body.error(f"{key!r} in {self.where} must be at least {minimum}, not {number}", scalar.position)
        if maximum is not None and number > maximum:
            raise body.error(f"{key!r} in {self.where} must be at most {maximum}, not {number}", scalar.position)
        return number

    def duration(self, key: str, *, minimum: timedelta | None = None) -> timedelta | None:
        """A duration in Go's notation, or None if the key is not there or its text is empty."""
        found = self._scalar(key, "a duration")
        if found is None or found[1].text == "":
            return None
        body, scalar = found
        try:
            duration = parse_duration(scalar.text)
        except ValueError as error:
            raise body.error(f"{key!r} in {self.where}: {error}", scalar.position) from None
        if minimum is not None and duration < minimum:
            raise body.error(
                f"{key!r} in {self.where} must be at least {minimum.total_seconds():g}s, not {scalar.text}",
                scalar.position,
            )
        return duration

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, or None if the key is not there; one text alone counts as a list of it."""
        found = self._single(key)
        if found is None:
            return None
        body, attribute = found
        items = attribute.value.items if isinstance(attribute.value, ListValue) else (attribute.value,)
        texts: list[str] = []
        for item in items:
            if not isinstance(item, Scalar) or isinstance(item.value, bool):
                raise body.error(f"{key!r} in {self.where} must list strings, not {item.kind}", item.position)
            texts.append(item.text)
        return tuple(texts)

    def block(self, key: str) -> "Fields | None":
        """The block of this name, all of them together if it stands there repeatedly, or None if there is none."""
        bodies = self.bodies(key)
        return Fields(bodies, f"{self.where}.{key}" if self.where else key) if bodies else None

    def bodies(self, key: str) -> tuple[Body, ...]:
        """The blocks of this name as they are, one by one, for whoever knows what may stand in them."""
        return tuple(body for owner, attribute in self._find(key) for body in self._as_bodies(owner, attribute))

    def labelled(self, key: str) -> tuple[tuple[str, Body], ...]:
        """Blocks with one label each (`key "label" { … }`, or `key { label { … } }`), in their order."""
        return tuple(
            (attribute.key, body)
            for outer in self.bodies(key)
            for attribute in outer
            for body in self._as_bodies(outer, attribute)
        )

    def error(self, message: str, key: str | None = None) -> ConfigurationError:
        """An error that points at the key if it stands there, else at the block."""
        for body, attribute in self._find(key) if key else ():
            return body.error(message, attribute.position)
        if self._bodies:
            return self._bodies[0].error(message)
        return ConfigurationError(message)

    def finish(self) -> None:
        """Refuse the first key nobody asked for.

        Raises:
            ConfigurationError: with its place, and the nearest name that would be known.
        """
        known = {name.casefold(): name for name in sorted(self._asked)}
        for body in self._bodies:
            for attribute in body:
                if attribute.key.casefold() not in known:
                    near = difflib.get_close_matches(attribute.key.casefold(), known, n=1)
                    hint = f"; did you mean {known[near[0]]!r}?" if near else ""
                    place = f" in {self.where}" if self.where else ""
                    raise body.error(f"unknown key {attribute.key!r}{place}{hint}", attribute.position)

    def _find(self, key: str) -> list[tuple[Body, Attribute]]:
        self._asked.add(key)
        folded = key.casefold()
        return [(body, attribute) for body in self._bodies for attribute in body if attribute.key.casefold() == folded]

    def _single(self, key: str) -> tuple[Body, Attribute] | None:
        found = self._find(key)
        if len(found) > 1:
            first, (body, second) = found[0][1], found[1]
            raise body.error(f"{key!r} in {self.where} was set in line {first.position.line} already", second.position)
        return found[0] if found else None

    def _scalar(self, key: str, wanted: str) -> tuple[Body, Scalar] | None:
        found = self._single(key)
        if found is None:
            return None
        body, attribute = found
        value = attribute.value
        if not isinstance(value, Scalar):
            raise body.error(f"{key!r} in {self.where} must be {wanted}, not {value.kind}", value.position)
        return body, value

    def _as_bodies(self, owner: Body, attribute: Attribute) -> tuple[Body, ...]:
        value: Value = attribute.value
        items = value.items if isinstance(value, ListValue) else (value,)
        bodies: list[Body] = []
        for item in items:
            if not isinstance(item, Body):
                raise owner.error(
                    f"{attribute.key!r} in {self.where or 'the file'} must be a block, not {item.kind}", item.position
                )
            bodies.append(item)
        return tuple(bodies)


def _whole_number(scalar: Scalar) -> int | None:
    if isinstance(scalar.value, bool | float):
        return None
    try:
        return int(scalar.value)
    except ValueError:
        return None
