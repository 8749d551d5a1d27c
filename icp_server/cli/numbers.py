"""Numbers as they are typed, held against the size they have on the wire."""

from __future__ import annotations

from icp_server.cli.api import CommandError

_INT32 = range(-(1 << 31), 1 << 31)


def int32(number: int, what: str) -> int:
    """Return the number if 32 bits hold it.

    Raises:
        CommandError: they do not.
    """
    if number not in _INT32:
        raise CommandError(f"invalid value for {what}: {number} does not fit into 32 bits")
    return number
