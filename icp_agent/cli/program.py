"""All commands by name; the module behind one is imported when it is called, so that `--help` stays quick."""

import importlib
from collections.abc import Callable, Sequence

from icp_agent import __version__
from icp_common.commands import Command, Program

_COMMANDS = (
    ("run", "Runs the agent", "run:run"),
    ("validate", "Validates a SPIRE agent configuration file", "run:validate"),
    ("healthcheck", "Determines agent health status", "healthcheck:healthcheck"),
    ("api fetch", "Fetches X509 SVIDs from the Workload API", "fetch:fetch_x509"),
    ("api fetch x509", "Fetches X509 SVIDs from the Workload API", "fetch:fetch_x509"),
    ("api fetch jwt", "Fetches a JWT SVID from the Workload API", "jwt:fetch_jwt"),
    ("api validate jwt", "Validates a JWT SVID", "jwt:validate_jwt"),
    ("api watch", "Attaches to the Workload API and prints updates as they're received", "watch:watch"),
)

_EXAMPLES = (
    "icp-agent run -config conf/agent/agent.conf -joinToken 4f2a…",
    "icp-agent healthcheck -verbose",
    "icp-agent api fetch x509 -write /run/svid",
)


def program() -> Program:
    """Build the program; nothing of the agent is imported yet."""
    commands = [Command(name, summary, _lazily(target)) for name, summary, target in _COMMANDS]
    return Program(
        "icp-agent",
        __version__,
        commands,
        summary="A SPIFFE agent: it attests its node and hands the workloads on it their identities.",
        examples=_EXAMPLES,
    )


def _lazily(target: str) -> Callable[[Sequence[str]], int]:
    module, _, function = target.partition(":")

    def run(arguments: Sequence[str]) -> int:
        command = getattr(importlib.import_module(f"icp_agent.cli.{module}"), function)
        code: int = command(arguments)
        return code

    return run
