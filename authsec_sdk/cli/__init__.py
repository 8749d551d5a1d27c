"""``authsec``: look at this workload's identity, at certificates, and at why something does not work."""

import argparse
import sys
from collections.abc import Sequence

from authsec_sdk.cli import completion, doctor, fetch, inspect, policy, postgres, run, serve, validate, watch
from authsec_sdk.cli.output import printable
from authsec_sdk.errors import NotReadyError, SpiffeError, UnavailableError

__all__ = ["build_parser", "main"]

_EXAMPLES = """examples:
  authsec fetch                                    the identities this process gets
  authsec fetch --output json --socket unix:///tmp/spire-agent/public/api.sock
  authsec watch                                    a line at each rotation, until interrupted
  authsec validate jwt token --audience payments   is this token to be believed
  authsec run --dir /run/svid --signal HUP -- nginx   files for other programs, as spiffe-helper
  authsec inspect peer.pem --bundle bundle.pem --trust-domain example.org
  authsec doctor                                   what is wrong, and who has to act
  authsec policy check policy.yaml                 every error in a policy, with its line and key
  authsec postgres --help                          SPIFFE IDs as PostgreSQL roles

exit codes: 0 done, 1 refused or wrong, 2 wrong use, 3 no agent or no answer in time, 130 interrupted
"""


_COMMANDS = (fetch, watch, inspect, validate, doctor, run, serve, policy, postgres, completion)


def build_parser() -> argparse.ArgumentParser:
    """Return what reads the arguments of all commands."""
    parser = argparse.ArgumentParser(
        prog="authsec", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code that the help names."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (NotReadyError, UnavailableError) as error:
        return _complain(error, 3)
    except (SpiffeError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    return code


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"authsec: {printable(error)}\n")
    return code
