"""``authsec postgres`` against a real server: roles by SPIFFE ID, a certificate that follows, a map kept in step."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpclib.const
import grpclib.server
import psycopg
import pytest
from anyio.from_thread import start_blocking_portal

from authsec_sdk.authz import authorize_id
from authsec_sdk.cli import main
from authsec_sdk.integrations.psycopg import PsycopgConnector
from authsec_sdk.proto.spire import entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Server
from authsec_sdk.spiffe import X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI

pytestmark = pytest.mark.xdist_group("postgres")

BILLING = "spiffe://example.org/billing"
HBA = "hostssl all all 127.0.0.1/32 cert clientname=DN map=spiffe\n"
PAIR = f"{BILLING}=billing"


def authsec(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "authsec_sdk.cli", "postgres", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_as_at_a_terminal
    )


def _as_at_a_terminal() -> None:
    """Take Ctrl-C as a person's shell would have it: whoever runs tests in the background may have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def daemon(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = authsec(*arguments)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


class Entries(entry_grpc.EntryBase):
    """A SPIRE server's entries, as far as they are listed by their SPIFFE ID."""

    def __init__(self) -> None:
        self.known: dict[str, types_pb2.Entry] = {}

    def add(self, path: str, *dns_names: str, expires_at: int = 0) -> None:
        spiffe_id = types_pb2.SPIFFEID(trust_domain="example.org", path=path)
        self.known[path] = types_pb2.Entry(spiffe_id=spiffe_id, dns_names=dns_names, expires_at=expires_at)

    async def ListEntries(self, stream: Any) -> None:
        request = await stream.recv_message()
        found = list(self.known.values())
        if request.filter.HasField("by_spiffe_id"):
            found = [entry for entry in found if entry.spiffe_id == request.filter.by_spiffe_id]
        await stream.send_message(entry_pb2.ListEntriesResponse(entries=found))

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        name = "/spire.api.server.entry.v1.Entry/ListEntries"
        request, reply = entry_pb2.ListEntriesRequest, entry_pb2.ListEntriesResponse
        return {name: grpclib.const.Handler(self.ListEntries, grpclib.const.Cardinality.UNARY_UNARY, request, reply)}


Entries.__abstractmethods__ = frozenset()  # the other methods are not served


@pytest.fixture
def entries(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[tuple[Entries, str]]:
    served = Entries()
    path = str(postgres.folder / f"api-{os.urandom(4).hex()}.sock")
    with start_blocking_portal() as portal:
        server = Server([served])
        portal.call(server.listen_unix, path)
        try:
            yield served, path
        finally:
            portal.call(server.close)


@pytest.fixture
def billing(world: Any, subject_of: Any) -> X509ContextHolder:
    """A workload whose SVID names it in the subject too."""
    spiffe_id = world.ca.id(BILLING)
    return X509ContextHolder(world.context(world.ca.svid(spiffe_id, subject=subject_of(spiffe_id))))


def login(world: Any, postgres: Any, source: Any, role: str = "billing") -> Any:
    connector = PsycopgConnector(source, authorize_id(world.payments_id))
    return connector.connect(host="127.0.0.1", port=postgres.port, user=role, dbname="postgres", autocommit=True)


def may_login(*arguments: Any) -> bool:
    with contextlib.suppress(psycopg.OperationalError), login(*arguments):
        return True
    return False


def ident(capsys: pytest.CaptureFixture[str], *pairs: str) -> str:
    assert main(["postgres", "ident", *pairs]) == 0
    return capsys.readouterr().out


def test_a_spiffe_id_is_a_role_without_a_password(
    world: Any, postgres: Any, billing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postgres", "hba", "--address", "127.0.0.0/8"]) == 0
    hba = capsys.readouterr().out
    postgres.present(world.payments.x509_context, hba, ident(capsys, PAIR))
    with login(world, postgres, billing) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("billing",)
    with pytest.raises(psycopg.OperationalError):
        login(world, postgres, billing, "reports")
    with pytest.raises(psycopg.OperationalError):
        login(world, postgres, world.frontend)
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        psycopg.connect(host="127.0.0.1", port=postgres.port, user="billing", dbname="postgres", sslmode="disable")


def test_a_dns_name_is_a_role(world: Any, postgres: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from authsec_sdk.testing.certificates import name

    assert main(["postgres", "hba", "--by", "dns", "--address", "127.0.0.1/32"]) == 0
    hba = capsys.readouterr().out
    postgres.present(world.payments.x509_context, hba, ident(capsys, "--by", "dns", "billing.db.example=billing"))
    svid = world.ca.svid("/x", subject=name("billing.db.example"), dns_names=["billing.db.example"])
    assert may_login(world, postgres, X509ContextHolder(world.context(svid)))
    assert not may_login(world, postgres, X509ContextHolder(world.context(world.ca.svid("/x"))))


def test_a_forged_subject_gets_nobody_in(
    world: Any, postgres: Any, subject_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from authsec_sdk.cli.postgres_lines import unique_identifier
    from authsec_sdk.testing.certificates import name

    postgres.present(world.payments.x509_context, HBA, ident(capsys, PAIR))
    spiffe_id = world.ca.id(BILLING)
    of_other_domain = world.other.svid(spiffe_id, subject=subject_of(spiffe_id))
    hidden = name("", organization=f"a,x500UniqueIdentifier={unique_identifier(spiffe_id)}")
    in_a_value = world.ca.svid("/intruder", subject=hidden)
    for svid in (of_other_domain, in_a_value):
        assert not may_login(world, postgres, X509ContextHolder(world.context(svid)))
    careless = f'spiffe "/^(.*,)?x500UniqueIdentifier={unique_identifier(spiffe_id)}(,.*)?$" "billing"\n'
    postgres.present(publish_anew(world), HBA, careless)
    assert may_login(world, postgres, X509ContextHolder(world.context(in_a_value))), "the attack is one"


def publish_anew(world: Any) -> X509Context:
    world.publish()
    context: X509Context = world.payments.x509_context
    return context


def test_access_ends_with_the_svid(
    world: Any, postgres: Any, subject_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The entry is gone, so nothing renews the SVID: a moment later it opens nothing."""
    postgres.present(world.payments.x509_context, HBA, ident(capsys, PAIR))
    spiffe_id = world.ca.id(BILLING)
    svid = world.ca.svid(spiffe_id, subject=subject_of(spiffe_id), ttl=timedelta(seconds=2))
    source = X509ContextHolder(world.context(svid))
    assert may_login(world, postgres, source)
    until(lambda: not may_login(world, postgres, source))
    assert svid.is_expired(datetime.now(UTC))
    assert "certificate verify failed" in postgres.log()


@pytest.fixture
def agent(world: Any) -> Iterator[FakeWorkloadAPI]:
    with FakeWorkloadAPI() as fake:
        fake.set_context(world.payments.x509_context)
        yield fake


def publish(world: Any, agent: FakeWorkloadAPI) -> X509Context:
    context = publish_anew(world)
    agent.set_context(context)
    return context


def test_the_servers_certificate_follows_and_no_connection_drops(
    world: Any, postgres: Any, billing: Any, agent: FakeWorkloadAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postgres", "settings"]) == 0
    settings = capsys.readouterr().out
    postgres.present(world.payments.x509_context, HBA, ident(capsys, PAIR))
    before = (postgres.data / "postgresql.conf").read_text()
    try:
        with daemon("certificate", "--data", str(postgres.data), "--socket", agent.address) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the files are there
            postgres.write("postgresql.conf", before + settings)
            os.kill(postgres.pid, signal.SIGHUP)
            with login(world, postgres, billing) as connection:
                backend = connection.info.backend_pid
                for _ in range(3):
                    postgres.wait_until_presented(publish(world, agent).svid.leaf)
                    assert connection.execute("SELECT pg_backend_pid()").fetchone() == (backend,)
            world.ca.rotate()
            postgres.wait_until_presented(publish(world, agent).svid.leaf)
            world.ca.remove_old_roots()
            postgres.wait_until_presented(publish(world, agent).svid.leaf)
            still_of_the_old_root = X509ContextHolder(world.context(billing.x509_context.svid))
            assert not may_login(world, postgres, still_of_the_old_root)
        files = {name: (postgres.data / name).stat() for name in ("svid.pem", "svid_bundle.pem")}
        assert {(stat.st_mode & 0o777, stat.st_uid) for stat in files.values()} == {(0o600, postgres.uid)}
        assert (postgres.data / "svid_bundle.pem").read_bytes() == world.ca.bundle().to_pem()  # nobody else's
        assert list(postgres.data.glob(".svid*")) == []
    finally:
        postgres.write("postgresql.conf", before)


def map_arguments(postgres: Any, socket: str) -> list[str]:
    return [
        *("map", "--data", str(postgres.data), "--server-socket", socket),
        *("--username", "admin", "--interval", "0.1"),
    ]


def test_without_its_entry_a_workload_is_out_at_once(
    world: Any, postgres: Any, billing: Any, entries: tuple[Entries, str]
) -> None:
    registry, socket = entries
    registry.add("/billing")
    postgres.present(world.payments.x509_context, HBA, "# the operator's own line\n")
    with daemon(*map_arguments(postgres, socket), PAIR, "spiffe://example.org/reports=reports"):
        until(lambda: may_login(world, postgres, billing))
        with login(world, postgres, billing) as connection:
            registry.known.clear()
            until(lambda: not may_login(world, postgres, billing))
            assert not billing.x509_context.svid.is_expired(billing.x509_context.svid.not_before)

            def ended() -> bool:
                try:
                    connection.execute("SELECT 1")
                except psycopg.OperationalError:
                    return True
                return False

            until(ended)
        registry.add("/billing", expires_at=1)  # an entry whose time is over is none
        time.sleep(0.3)
        assert not may_login(world, postgres, billing)
        registry.add("/billing")
        until(lambda: may_login(world, postgres, billing))
    text = (postgres.data / "pg_ident.conf").read_text()
    assert text.startswith("# the operator's own line\n# authsec postgres map=spiffe: begin")
    assert ("billing" in text, "reports" in text) == (True, False)


def test_a_map_stays_while_the_server_is_away(world: Any, postgres: Any, tmp_path: Path) -> None:
    postgres.present(world.payments.x509_context, HBA, "kept\n")
    arguments = map_arguments(postgres, str(tmp_path / "none.sock"))
    process = authsec(*arguments, "--once", PAIR)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "does not answer" in said) == (3, True), said
    assert (postgres.data / "pg_ident.conf").read_text() == "kept\n"
    postgres.write("pg_ident.conf", "")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["ident", "billing"], "SPIFFE_ID=ROLE"),
        (["ident", f'{BILLING}=a" "postgres'], "role"),
        (["ident", f"{BILLING}=+admins"], "role"),
        (["ident", "http://example.org/billing=billing"], "spiffe://"),
        (["ident", "--by", "dns", 'a" b=billing'], "DNS name"),
        (["ident", "--map", "a b", PAIR], "map"),
        (["hba", "--address", "0.0.0.0/0 trust"], "address"),
        (["hba", "--database", "a b"], "database"),
        (["certificate", "--data", "/nowhere", "--once"], "data directory"),
        (["map", "--data", "/nowhere", PAIR], "data directory"),
    ],
)
def test_what_could_say_more_than_it_seems_is_refused(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postgres", *arguments]) == 1
    said = capsys.readouterr()
    assert (said.out, wanted in said.err) == ("", True), said.err
