"""All commands by name; the module behind one is imported when it is called, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence

from icp_common.commands import Command, Program

_COMMANDS = (
    ("run", "Runs the server", "run:run"),
    ("validate", "Validates a server configuration file", "run:validate"),
    ("healthcheck", "Determines server health status", "health:healthcheck"),
    ("token generate", "Generates a join token", "token:generate"),
    ("entry create", "Creates registration entries", "entry_write:create"),
    ("entry update", "Updates registration entries", "entry_write:update"),
    ("entry delete", "Deletes registration entries", "entry_write:delete"),
    ("entry show", "Displays configured registration entries", "entry_read:show"),
    ("entry count", "Counts registration entries", "entry_read:count"),
    ("bundle show", "Prints the server's CA bundle to stdout", "bundle:show"),
    ("agent list", "Lists attested agents and their SPIFFE IDs", "agent:list_"),
    ("agent show", "Shows the details of an attested agent given its SPIFFE ID", "agent:show"),
    ("agent count", "Counts attested agents", "agent:count"),
    ("agent ban", "Bans an attested agent given its SPIFFE ID", "agent:ban"),
    ("agent evict", "Evicts an attested agent given its SPIFFE ID", "agent:evict"),
)

_EXAMPLES = (
    "icp-server run -config conf/server/server.conf",
    "icp-server token generate -spiffeID spiffe://example.org/node",
    (
        "icp-server entry create -spiffeID spiffe://example.org/web -parentID spiffe://example.org/node "
        "-selector unix:uid:1000"
    ),
)


def program() -> Program:
    """Build the program; nothing of the server is imported yet."""
    commands = [Command(name, summary, _lazily(target)) for name, summary, target in _COMMANDS]
    return Program(
        "icp-server",
        importlib.metadata.version("authsec-sdk"),
        commands,
        summary="A SPIFFE server: it attests nodes and issues the identities of their workloads.",
        examples=_EXAMPLES,
    )


def _lazily(target: str) -> Callable[[Sequence[str]], int]:
    module, _, function = target.partition(":")

    def run(arguments: Sequence[str]) -> int:
        command = getattr(importlib.import_module(f"icp_server.cli.{module}"), function)
        code: int = command(arguments)
        return code

    return run
