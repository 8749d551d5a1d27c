"""Settings of SPIRE that this agent knows and does not honour yet: refused by name, unless they ask for nothing."""

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Fields


class Later:
    """Declares such keys. A value that is upstream's default asks for nothing and passes; any other is an error.

    An agent that quietly ignored what an operator asked for would be worse than one that does not start.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def text(self, fields: Fields, key: str, what: str) -> None:
        """A text; the empty one passes."""
        if fields.text(key):
            raise _refused(fields, key, what)

    def texts(self, fields: Fields, key: str, what: str) -> None:
        """A list; the empty one passes."""
        if fields.texts(key):
            raise _refused(fields, key, what)

    def boolean(self, fields: Fields, key: str, what: str) -> None:
        """A switch; false passes."""
        if fields.boolean(key):
            raise _refused(fields, key, what)

    def integer(self, fields: Fields, key: str, what: str, *, harmless: tuple[int, ...]) -> None:
        """A number; the harmless ones pass."""
        number = fields.integer(key)
        if number is not None and number not in harmless:
            raise _refused(fields, key, what)

    def block(self, fields: Fields, key: str, what: str) -> None:
        """A block; an empty one passes."""
        block = fields.block(key)
        if block is not None and any(True for body in fields.bodies(key) for _ in body):
            raise _refused(fields, key, what)

    def without_effect(self, key: str, reason: str) -> None:
        """Accept a setting that changes nothing, and say so in the log."""
        self.warnings.append(f"{key} has no effect: {reason}")


def _refused(fields: Fields, key: str, what: str) -> ConfigurationError:
    return fields.error(f"{key!r} is not supported yet: {what} comes in a later version; leave it out", key)
