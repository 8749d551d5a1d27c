"""The command `icp-agent`: verbs, flags, outputs and exit codes of `spire-agent`."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from icp_agent.cli.program import program

    return program().main(arguments)
