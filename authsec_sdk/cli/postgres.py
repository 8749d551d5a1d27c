"""``authsec postgres``: SPIFFE IDs as PostgreSQL roles, and the server's certificate an SVID that is always current."""

import argparse
import asyncio
import json
import pwd
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from authsec_sdk.cli.output import add_output
from authsec_sdk.cli.parsing import add_socket
from authsec_sdk.cli.postgres_lines import (
    Mapping,
    Registered,
    hba_lines,
    ident_lines,
    parse_mapping,
    replace_block,
    roles_lost,
    settings_lines,
    still_registered,
)
from authsec_sdk.cli.postgres_policy import policy_mappings
from authsec_sdk.cli.postgres_server import BUNDLE_FILE, SVID_FILE, DataDirectory
from authsec_sdk.errors import ConfigurationError, RetryableError, SpiffeError, UnavailableError
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.workloadapi import X509Source

_SERVER_SOCKET: Final = "/tmp/spire-server/private/api.sock"  # noqa: S108 - upstream's default, named by its users too
_CALL_TIMEOUT: Final = 10.0
_PAGE_SIZE: Final = 500
_AGAIN_FOR: Final = 90.0  # seconds; a login that began before a change takes up to authentication_timeout, 60
_IDENT_FILE: Final = "pg_ident.conf"

_EXAMPLES = """examples:
  authsec postgres settings >> DATA/postgresql.conf
  authsec postgres hba --address 10.0.0.0/8        lines for pg_hba.conf: put them before others
  authsec postgres ident spiffe://example.org/billing=billing >> DATA/pg_ident.conf
  authsec postgres certificate --data DATA         runs on: the server's certificate is the SVID
  authsec postgres map --data DATA spiffe://example.org/billing=billing
                                                   runs on: no entry, no line in pg_ident.conf, no session
"""


def register(commands: Any) -> None:
    """Add this command and its own to the parser."""
    parser = commands.add_parser(
        "postgres",
        help="SPIFFE IDs as PostgreSQL roles, the server's certificate",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    settings = actions.add_parser("settings", help="print the lines for postgresql.conf")
    settings.set_defaults(run=run_settings)

    hba = actions.add_parser("hba", help="print the lines for pg_hba.conf")
    _add_map(hba)
    hba.add_argument("--database", action="append", metavar="NAME", help="only this one; may be repeated")
    hba.add_argument("--address", action="append", metavar="NET/BITS", help="only from there; may be repeated")
    hba.set_defaults(run=run_hba)

    ident = actions.add_parser("ident", help="print the lines for pg_ident.conf")
    _add_map(ident)
    _add_mappings(ident)
    ident.set_defaults(run=run_ident)

    certificate = actions.add_parser("certificate", help="keep the server's certificate the newest SVID")
    _add_data(certificate)
    add_socket(certificate)
    add_output(certificate)
    certificate.set_defaults(run=run_certificate)

    keep = actions.add_parser("map", help="keep pg_ident.conf in step with the registration entries")
    _add_map(keep)
    _add_data(keep)
    add_output(keep)
    keep.add_argument(
        "--server-socket", default=_SERVER_SOCKET, metavar="PATH", help=f"the SPIRE server's API ({_SERVER_SOCKET})"
    )
    keep.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default 1)")
    keep.add_argument("--psql", metavar="PATH", help="what ends sessions (default: psql on PATH)")
    keep.add_argument("--username", metavar="ROLE", help="a superuser for psql (default: the data directory's owner)")
    keep.add_argument("--keep-sessions", action="store_true", help="let sessions of removed workloads go on")
    _add_mappings(keep)
    keep.set_defaults(run=run_map)


def _add_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--map", default="spiffe", metavar="NAME", help="the map's name (default spiffe)")
    parser.add_argument(
        "--by",
        choices=("id", "dns"),
        default="id",
        help="id: SPIFFE IDs, by the subject's x500UniqueIdentifier (SPIRE's CredentialComposer uniqueid); "
        "dns: the first DNS name of the entry, which is the CN",
    )


def _add_mappings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mappings", nargs="*", metavar="WHO=ROLE")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="a policy document that says it, instead")
    parser.add_argument("--for-database", metavar="NAME", help="of which database the policy is asked")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's data directory")
    parser.add_argument("--once", action="store_true", help="do it once and end")


def run_settings(_options: argparse.Namespace) -> int:
    """Print the lines for postgresql.conf."""
    return _print(settings_lines(SVID_FILE, BUNDLE_FILE))


def run_hba(options: argparse.Namespace) -> int:
    """Print the lines for pg_hba.conf."""
    addresses = options.address or ["0.0.0.0/0", "::/0"]
    return _print(hba_lines(options.by, options.map, options.database or ["all"], addresses))


def run_ident(options: argparse.Namespace) -> int:
    """Print the lines for pg_ident.conf."""
    with _mappings(options) as mappings:
        return _print(ident_lines(options.map, mappings()))


def run_certificate(options: argparse.Namespace) -> int:
    """Write the SVID and reload the server, at each rotation."""
    directory = DataDirectory(options.data)
    with X509Source(options.socket, ready_timeout=options.timeout) as source:
        context: X509Context | None = None
        while True:
            context = source.wait(newer_than=context)
            directory.install(context)
            svid = context.svid
            _tell(
                options,
                spiffe_id=str(svid.id),
                not_after=svid.not_after.isoformat(),
                reloaded=directory.reload(),
            )
            if options.once:
                return 0


def run_map(options: argparse.Namespace) -> int:
    """Keep the map in step, until interrupted or once."""
    with _mappings(options) as newest:
        keeper = _MapKeeper(options, newest())
        complaint = ""
        while True:
            try:
                keeper.mappings = newest()
                keeper.step(asyncio.run(_registered(options.server_socket, keeper.mappings)))
                complaint = ""
            except (RetryableError, ConfigurationError) as error:
                if options.once or not (options.policy or isinstance(error, RetryableError)):
                    raise
                if str(error) != complaint:  # the map stays as it is: SVIDs that are not renewed end anyway
                    sys.stderr.write(f"authsec: {error}; the map stays as it is\n")
                complaint = str(error)
            if options.once:
                return 0
            time.sleep(options.interval)


@contextmanager
def _mappings(options: argparse.Namespace) -> Iterator[Callable[[], tuple[Mapping, ...]]]:
    """Give what says who may have which role: the arguments, or the newest policy in a file."""
    if options.policy is None:
        if not options.mappings or options.for_database is not None:
            raise ConfigurationError("give WHO=ROLE, or --policy with --for-database")
        fixed = tuple(parse_mapping(text, options.by) for text in options.mappings)
        yield lambda: fixed
        return
    if options.mappings or options.for_database is None or options.by != "id":
        raise ConfigurationError("--policy goes with --for-database, and neither with WHO=ROLE nor with --by dns")
    with PolicyFile(options.policy) as file:
        yield lambda: policy_mappings(file.policy, options.for_database)


class _MapKeeper:
    """The map as it was written last, and whose sessions are still to be ended."""

    def __init__(self, options: argparse.Namespace, mappings: tuple[Mapping, ...]) -> None:
        self.mappings = mappings
        self._options = options
        self._directory = DataDirectory(options.data)
        # All at first: who ran before may have been stopped between writing the map and ending sessions.
        self._ending = {mapping.role: time.monotonic() + _AGAIN_FOR for mapping in self.mappings}
        self._username: str = options.username or pwd.getpwuid(self._directory.path.stat().st_uid).pw_name

    def step(self, entries: list[Registered]) -> None:
        """Write what the entries allow, if that is not what is written, and end what they do not allow any more."""
        allowed = still_registered(self.mappings, entries, now=datetime.now(UTC))
        lines = ident_lines(self._options.map, allowed)
        before = self._directory.read(_IDENT_FILE)
        after = replace_block(before, self._options.map, lines)
        lost = roles_lost(before, self._options.map, lines)
        if after != before:
            self._directory.write(_IDENT_FILE, after.encode())
            reloaded = self._directory.reload()
            allowed_names = [f"{mapping.who}={mapping.role}" for mapping in allowed]
            _tell(self._options, allowed=allowed_names, reloaded=reloaded)
        if not self._options.keep_sessions:
            self._end_sessions(lost, {mapping.role for mapping in allowed})

    def _end_sessions(self, lost: frozenset[str], open_roles: set[str]) -> None:
        """End sessions of roles that lost somebody: once, and again for a while where nobody has the role now."""
        now = time.monotonic()
        self._ending = {role: end for role, end in self._ending.items() if end > now and role not in open_roles}
        self._ending.update(dict.fromkeys(lost - open_roles, now + _AGAIN_FOR))
        if roles := lost | self._ending.keys():
            ended = self._directory.end_sessions(roles, psql=self._options.psql, username=self._username)
            if ended:
                _tell(self._options, roles=sorted(roles), sessions_ended=ended)


async def _registered(socket: str, mappings: tuple[Mapping, ...]) -> list[Registered]:
    """Ask a server for the entries that matter: those of each ID, or all where DNS names decide.

    Raises:
        UnavailableError: it does not answer.
        ConfigurationError: it does not let us ask.
    """
    from authsec_sdk.proto.spire import entry_grpc, entry_pb2, types_pb2
    from authsec_sdk.rpc import Channel, GRPCError, Status

    wanted = sorted({str(mapping.who) for mapping in mappings if isinstance(mapping.who, SpiffeID)})
    filters = []
    for text in wanted:
        spiffe_id = SpiffeID.parse(text)
        by_id = types_pb2.SPIFFEID(trust_domain=str(spiffe_id.trust_domain), path=spiffe_id.path)
        filters.append(entry_pb2.ListEntriesRequest.Filter(by_spiffe_id=by_id))
    if any(isinstance(mapping.who, str) for mapping in mappings):
        filters = [entry_pb2.ListEntriesRequest.Filter()]
    found = []
    try:
        async with Channel.unix(socket) as channel:
            stub = entry_grpc.EntryStub(channel)
            for chosen in filters:
                token = ""
                while True:
                    request = entry_pb2.ListEntriesRequest(filter=chosen, page_size=_PAGE_SIZE, page_token=token)
                    page = await stub.ListEntries(request, timeout=_CALL_TIMEOUT)
                    found += [
                        Registered(
                            SpiffeID.parse(f"spiffe://{entry.spiffe_id.trust_domain}{entry.spiffe_id.path}"),
                            tuple(entry.dns_names),
                            entry.expires_at,
                        )
                        for entry in page.entries
                    ]
                    if not (token := page.next_page_token):
                        break
    except GRPCError as error:
        if error.status is Status.PERMISSION_DENIED:
            raise ConfigurationError(f"the server at {socket} does not let us list entries: {error.message}") from error
        raise UnavailableError(f"the server at {socket} does not answer: {error.message}") from error
    except (OSError, SpiffeError) as error:
        raise UnavailableError(f"the server at {socket} does not answer: {error}") from error
    return found


def _print(lines: list[str]) -> int:
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _tell(options: argparse.Namespace, **facts: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if options.output == "json":
        line = json.dumps({"time": now, **facts})
    else:
        line = "  ".join([now, *(f"{name}={_text(value)}" for name, value in facts.items())])
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
