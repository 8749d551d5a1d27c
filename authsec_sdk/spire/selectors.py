"""Selectors: what an attestor found out about a node or a workload, and when a registration entry matches it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Self

from authsec_sdk.errors import CallerError

BORROWABLE: Final = (
    "unix:path and unix:sha256 alone can be borrowed by any local process that may run the program: "
    "name the user as well (unix:uid)"
)
"""What to tell whoever makes an entry of which `only_borrowable` is true."""


class InvalidSelectorError(CallerError, ValueError):
    """The selector has no type, no value, or a type with a colon in it."""


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One fact an attestor vouches for, as `type:value`; the value may itself hold colons (`unix:uid:0`).

    What holds: type and value are not empty and the type has no colon, so `str()` and `parse()` are inverse.
    Not checked: whether any attestor would ever produce it.

    Raises:
        InvalidSelectorError: with the words a SPIRE server answers.
    """

    type: str
    value: str

    def __post_init__(self) -> None:
        if not self.type:
            raise InvalidSelectorError("missing selector type")
        if ":" in self.type:
            raise InvalidSelectorError("selector type contains ':'")
        if not self.value:
            raise InvalidSelectorError("missing selector value")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `type:value`, cut at the first colon.

        Raises:
            InvalidSelectorError: no colon, or an empty half.
        """
        type_, colon, value = text.partition(":")
        if not colon:
            raise InvalidSelectorError(f'selector "{text}" must be formatted as type:value')
        return cls(type_, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


def matches(entry_selectors: Collection[Selector], workload_selectors: Collection[Selector]) -> bool:
    """Whether an entry is for this workload: every selector of the entry was attested.

    An entry without selectors matches nobody: it would match everybody otherwise.
    """
    return bool(entry_selectors) and set(entry_selectors) <= set(workload_selectors)


def unique_selectors(selectors: Iterable[Selector]) -> tuple[Selector, ...]:
    """The selectors as a set has them, in the order of their first mention."""
    return tuple(dict.fromkeys(selectors))


def only_borrowable(selectors: Collection[Selector]) -> bool:
    """Whether a process could take on all of these by running a program: `unix:path`, `unix:sha256`, nothing else.

    A process which connects, leaves the socket to a child and then executes another program is seen as that program,
    and the child reads the answer. An entry made of such selectors alone deserves a warning where it is created. Where
    the user is named too, only processes of that user can do so.
    """
    return bool(selectors) and all(
        selector.type == "unix" and selector.value.startswith(("path:", "sha256:")) for selector in selectors
    )
