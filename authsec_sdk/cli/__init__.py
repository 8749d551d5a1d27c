"""``authsec``: look at this workload's identity, at certificates, and at why something does not work."""

import argparse
import sys
from collections.abc import Sequence

from authsec_sdk.cli import doctor, fetch, inspect, policy, postgres, run, serve, watch
from authsec_sdk.cli.output import printable
from authsec_sdk.errors import NotReadyError, SpiffeError, UnavailableError

__all__ = ["main"]

_EXAMPLES = """examples:
  authsec fetch                                    the identities this process gets
  authsec fetch --output json --socket unix:///tmp/spire-agent/public/api.sock
  authsec watch                                    a line at each rotation, until interrupted
  authsec inspect peer.pem --bundle bundle.pem --trust-domain example.org
  authsec doctor                                   what is wrong, and who has to act
  authsec policy check policy.yaml                 every error in a policy, with its line and key
  authsec postgres --help                          SPIFFE IDs as PostgreSQL roles

exit codes: 0 done, 1 refused or wrong, 2 wrong use, 3 no agent or no answer in time, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code that the help names."""
    parser = argparse.ArgumentParser(
        prog="authsec", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (fetch, watch, inspect, doctor, run, serve, policy, postgres):
        command.register(commands)
    options = parser.parse_args(arguments)
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
