"""All commands by name; the module behind one is imported when it is called, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence

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
    ("bundle count", "Counts bundles", "bundle:count"),
    ("bundle show", "Prints the server's CA bundle to stdout", "bundle:show"),
    ("bundle list", "Lists federated bundle data", "bundle:list_"),
    ("bundle set", "Creates or updates federated bundle data", "bundle:set_"),
    ("bundle delete", "Deletes federated bundle data", "bundle:delete"),
    ("federation create", "Creates a dynamic federation relationship", "federation:create"),
    ("federation update", "Updates a dynamic federation relationship", "federation:update"),
    ("federation list", "Lists all dynamic federation relationships", "federation:list_"),
    ("federation show", "Shows a dynamic federation relationship", "federation:show"),
    ("federation delete", "Deletes a dynamic federation relationship", "federation:delete"),
    ("federation refresh", "Refreshes the bundle of a federated trust domain", "federation:refresh"),
    ("logger get", "Gets the logger details", "logger:get"),
    ("logger set", "Sets the logger details", "logger:set_"),
    ("logger reset", "Resets the logger details to launch level", "logger:reset"),
    ("debug getinfo", "Prints debug information about the server", "debug:getinfo"),
    ("agent list", "Lists attested agents and their SPIFFE IDs", "agent:list_"),
    ("agent show", "Shows the details of an attested agent given its SPIFFE ID", "agent:show"),
    ("agent count", "Counts attested agents", "agent:count"),
    ("agent ban", "Bans an attested agent given its SPIFFE ID", "agent:ban"),
    ("agent evict", "Evicts an attested agent given its SPIFFE ID", "agent:evict"),
    ("x509 mint", "Mints an X509-SVID", "mint:mint_x509"),
    ("jwt mint", "Mints a JWT-SVID", "mint:mint_jwt"),
    ("localauthority jwt show", "Shows the local JWT authorities", "local_authority:show_jwt"),
    ("localauthority jwt prepare", "Prepares a new JWT authority", "local_authority:prepare_jwt"),
    ("localauthority jwt activate", "Activates the prepared JWT authority", "local_authority:activate_jwt"),
    ("localauthority jwt taint", "Marks the old JWT authority as tainted", "local_authority:taint_jwt"),
    ("localauthority jwt revoke", "Removes the tainted JWT authority", "local_authority:revoke_jwt"),
    ("localauthority x509 show", "Shows the local X.509 authorities", "local_authority:show_x509"),
    ("localauthority x509 prepare", "Prepares a new X.509 authority", "local_authority:prepare_x509"),
    ("localauthority x509 activate", "Activates the prepared X.509 authority", "local_authority:activate_x509"),
    ("localauthority x509 taint", "Marks the old X.509 authority as tainted", "local_authority:taint_x509"),
    (
        "localauthority x509 revoke",
        "Removes the tainted X.509 authority",
        "local_authority:revoke_x509",
    ),
    ("upstreamauthority taint", "Marks an X.509 upstream authority as tainted", "local_authority:taint_upstream"),
    ("upstreamauthority revoke", "Removes a tainted X.509 upstream authority", "local_authority:revoke_upstream"),
    ("db migrate", "Brings the database's schema up to this release", "db:migrate"),
    ("db check", "Says whether everything in the database is whole", "db:check"),
    ("db backup", "Writes what the trust domain has to one file", "db:backup"),
    ("db restore", "Puts a backup back", "db:restore"),
)
_BEHIND_FLAGS = (("wit-svid", ("wit mint", "Mints a WIT-SVID", "mint_wit:mint")),)
"""Commands that are there when this feature flag is among those of the environment."""
_FLAGS_VARIABLE = "SPIRE_SERVER_FFLAGS"

_EXAMPLES = (
    "icp-server run -config conf/server/server.conf",
    "icp-server token generate -spiffeID spiffe://example.org/node",
    (
        "icp-server entry create -spiffeID spiffe://example.org/web -parentID spiffe://example.org/node "
        "-selector unix:uid:1000"
    ),
)


def program(environ: Mapping[str, str] = os.environ) -> Program:
    """Build the program; nothing of the server is imported yet."""
    flags = environ.get(_FLAGS_VARIABLE, "")
    known = [*_COMMANDS, *(command for flag, command in _BEHIND_FLAGS if flag in flags)]
    commands = [Command(name, summary, _lazily(target)) for name, summary, target in known]
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
