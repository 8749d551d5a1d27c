"""The command `icp-server`: verbs, flags, outputs and exit codes of `spire-server`."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from icp_server.cli.program import program

    return program().main(arguments)
