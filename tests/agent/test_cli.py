"""The command line: outputs, exit codes and flags that scripts written for spire-agent rely on."""

import asyncio
import importlib.metadata
import json
import os
import stat
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.testing import TestCA
from icp_agent.cli import main
from icp_agent.cli.client import CommandError, rpc_error, socket_path
from icp_agent.domain.agent_state import DenialReason, Phase

RUN_FLAGS = """
allowUnauthenticatedVerifiers config dataDir disableSDSAPI disableWorkloadAPI expandEnv insecureBootstrap joinToken
joinTokenFile logFile logFormat logLevel logSourceLocation rebootstrapDelay rebootstrapMode serverAddress serverPort
socketPath trustBundle trustBundleFormat trustBundleUrl trustDomain
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


async def run(*arguments: str, timeout: float = 60) -> tuple[int, str, str]:
    """`python -m icp_agent …` as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "icp_agent", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    async with asyncio.timeout(timeout):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


CONFIG = """
agent { server_address = "s" server_port = 1 trust_domain = "example.org" insecure_bootstrap = true %s }
plugins { KeyManager "memory" {} NodeAttestor "join_token" {} WorkloadAttestor "unix" {} }
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "agent.conf"
    path.write_text(CONFIG % "")
    return path


class TestValidate:
    def test_valid(self, config, capsys):
        assert main(["validate", "-config", str(config)]) == 0
        assert capsys.readouterr().out == "SPIRE agent configuration file is valid.\n"

    @pytest.mark.parametrize("flag", ["-config=%s", "--config=%s"])
    def test_one_dash_or_two(self, config, capsys, flag):
        assert main(["validate", flag % config]) == 0

    def test_invalid(self, config, capsys):
        config.write_text(CONFIG % "sever_port = 2")
        assert main(["validate", "-config", str(config)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("SPIRE agent configuration file is invalid: ")
        assert "unknown key 'sever_port' in agent; did you mean 'server_port'?" in error

    def test_missing(self, capsys):
        assert main(["validate", "-config", "/nowhere"]) == 1
        assert capsys.readouterr().err == (
            "SPIRE agent configuration file is invalid: could not find config file /nowhere: "
            "please use the -config flag\n"
        )

    def test_unknown_flag(self, capsys):
        assert main(["validate", "-bogus"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("flag provided but not defined: -bogus\nValidates")
        assert error.endswith("SPIRE agent configuration file is invalid: flag provided but not defined: -bogus\n")

    def test_flags_count_too(self, config, capsys):
        assert main(["validate", "-config", str(config), "-trustDomain", "NOT ONE"]) == 1
        assert "could not parse trust_domain" in capsys.readouterr().err

    def test_warnings_are_told(self, config, capsys):
        config.write_text(CONFIG % 'rebootstrap_delay = "1m"')
        assert main(["validate", "-config", str(config)]) == 0
        assert "Warning: rebootstrap_delay has no effect" in capsys.readouterr().err

    def test_expand_env(self, config, capsys, monkeypatch):
        config.write_text(CONFIG.replace('"example.org"', '"$DOMAIN_OF_TEST"') % "")
        monkeypatch.setenv("DOMAIN_OF_TEST", "example.org")
        assert main(["validate", "-config", str(config), "-expandEnv"]) == 0
        assert main(["validate", "-config", str(config)]) == 1


class TestProgram:
    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.strip() == importlib.metadata.version("authsec-sdk")

    def test_no_command(self, capsys):
        assert main([]) == 127
        assert "Usage: icp-agent [--version] [--help] <command> [<args>]" in capsys.readouterr().err

    def test_unknown_command(self):
        assert main(["bogus"]) == 127

    def test_a_group_without_a_command(self):
        assert main(["api"]) == 1

    @pytest.mark.parametrize(
        "command",
        [[], ["run"], ["validate"], ["healthcheck"], ["api", "fetch"], ["api", "fetch", "x509"], ["api", "watch"]],
    )
    def test_help_has_examples(self, command, capsys):
        assert main([*command, "--help"]) == 0
        assert "Examples:\n  icp-agent" in capsys.readouterr().out

    def test_upstreams_flags_of_run_are_known(self, capsys):
        main(["run", "-help"])
        shown = capsys.readouterr().out
        for flag in RUN_FLAGS.split():
            assert f"\n  -{flag}" in shown

    def test_run_with_a_wrong_file(self, capsys):
        assert main(["run", "-config", "/nowhere"]) == 1
        assert capsys.readouterr().err == "could not find config file /nowhere: please use the -config flag\n"

    def test_run_without_a_safe_folder(self, tmp_path):
        unsafe = tmp_path / "unsafe"
        unsafe.mkdir()
        unsafe.chmod(0o777)
        path = tmp_path / "agent.conf"
        path.write_text(CONFIG % f'data_dir = "{unsafe}" socket_path = "{tmp_path}/public/api.sock"')
        done = subprocess.run(
            [sys.executable, "-m", "icp_agent", "run", "-config", str(path)],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "can be written by others" in done.stderr


class TestSocketPath:
    def test_choice(self):
        template = {"SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE": "/run/%i/api.sock"}
        default = "/tmp/spire-agent/public/api.sock"
        assert socket_path(default, "", {}) == default
        assert socket_path("/x", "", {"SPIRE_AGENT_PUBLIC_SOCKET": "/y"}) == "/x"
        assert socket_path(default, "", {"SPIRE_AGENT_PUBLIC_SOCKET": "/y"}) == "/y"
        assert socket_path(default, "blue", template) == "/run/blue/api.sock"
        assert socket_path("/x", "blue", template) == "/x"

    @pytest.mark.parametrize("environ", [{}, {"SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE": "/run/api.sock"}])
    def test_an_instance_needs_a_template(self, environ):
        with pytest.raises(CommandError, match="SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE"):
            socket_path("/tmp/spire-agent/public/api.sock", "blue", environ)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (Status.UNAVAILABLE, "Unavailable"),
        (Status.PERMISSION_DENIED, "PermissionDenied"),
        (Status.DEADLINE_EXCEEDED, "DeadlineExceeded"),
        (Status.CANCELLED, "Canceled"),
    ],
)
def test_failures_are_told_in_grpc_gos_words(status, name):
    assert rpc_error(GRPCError(status, "why")) == f"rpc error: code = {name} desc = why"


@pytest.mark.anyio
class TestAgainstAnAgent:
    async def test_fetch(self, server, start_agent, entry):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", hint="internal", federates_with=["partner.org"])}
        agent = await start_agent()
        code, out, err = await run("api", "fetch", "-socketPath", str(agent.config.socket_path))
        assert (code, err) == (0, "")
        first, blank, *lines = out.splitlines()
        assert first.startswith("Received 1 svid after ")
        assert blank == ""
        assert lines[:2] == ["SPIFFE ID:\t\tspiffe://example.org/web", "Hint:\t\t\tinternal"]
        assert lines[2].startswith("SVID Valid After:\t20")
        assert lines[2].endswith(" +0000 UTC")
        assert lines[4].startswith("CA #1 Valid After:\t")
        assert lines[6].startswith("[spiffe://partner.org] CA #1 Valid After:\t")
        assert lines[8:] == [""]

    async def test_fetch_as_json(self, server, start_agent, entry):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        code, out, _ = await run(
            "api", "fetch", "x509", "-socketPath", str(agent.config.socket_path), "-output", "json"
        )
        assert code == 0
        document = json.loads(out)
        assert document.keys() == {"crl", "federated_bundles", "svids"}
        assert document["svids"][0].keys() == {"bundle", "hint", "spiffe_id", "x509_svid", "x509_svid_key"}

    async def test_write(self, server, start_agent, entry, folder):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", "/a", federates_with=["partner.org"]), "b": entry("b", "/b")}
        agent = await start_agent()
        target = folder / "svids"
        target.mkdir()
        (target / "svid.0.key").write_text("was here, and open to all")
        (target / "svid.0.key").chmod(0o666)
        socket = str(agent.config.socket_path)
        code, out, _ = await run("api", "fetch", "x509", "-socketPath", socket, "-write", str(target), "-silent")
        assert code == 0
        assert out.splitlines()[:3] == [
            f"Writing SVID #0 to file {target}/svid.0.pem.",
            f"Writing key #0 to file {target}/svid.0.key.",
            f"Writing bundle #0 to file {target}/bundle.0.pem.",
        ]
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {
            "svid.0.pem": 0o644,
            "svid.0.key": 0o600,
            "bundle.0.pem": 0o644,
            "federated_bundle.0.0.pem": 0o644,
            "svid.1.pem": 0o644,
            "svid.1.key": 0o600,
            "bundle.1.pem": 0o644,
            "federated_bundle.1.0.pem": 0o644,
        }
        leaf = x509.load_pem_x509_certificate((target / "svid.1.pem").read_bytes())
        key = load_pem_private_key((target / "svid.1.key").read_bytes(), None)
        assert key.public_key() == leaf.public_key()

    async def test_write_where_there_is_no_folder(self, server, start_agent, entry, folder):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        socket = str(agent.config.socket_path)
        code, _, err = await run("api", "fetch", "-socketPath", socket, "-write", str(folder / "nowhere"))
        assert code == 1
        assert "cannot write" in err

    async def test_no_identity(self, start_agent):
        agent = await start_agent()
        code, out, err = await run("api", "fetch", "-socketPath", str(agent.config.socket_path))
        assert (code, out) == (1, "")
        assert err == "rpc error: code = PermissionDenied desc = no identity issued\n"

    async def test_no_agent(self, folder):
        code, _, err = await run("api", "fetch", "-socketPath", str(folder / "none.sock"))
        assert code == 1
        assert err.startswith("rpc error: code = Unavailable desc = ")

    @pytest.mark.parametrize(
        "flags", [["-timeout", "x"], ["-output", "xml"], ["-bogus"], ["stray"], ["-timeout"]], ids=" ".join
    )
    async def test_wrong_flags(self, flags):
        code, _, err = await run("api", "fetch", *flags)
        assert code == 1
        assert "Usage of fetch x509" in err

    async def test_the_timeout_ends_the_wait(self, server, start_agent, entry):
        server.tokens.clear()
        agent = await start_agent(wait=False)
        socket = str(agent.config.socket_path)
        code, _, err = await run("api", "fetch", "-socketPath", socket, "-timeout", "300ms")
        assert code == 1
        assert "DeadlineExceeded" in err

    async def test_watch_prints_updates_over_an_outage(self, server, start_agent, entry, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "icp_agent", "api", "watch", "-socketPath", str(agent.config.socket_path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None

        async def until(words: str) -> None:
            async with asyncio.timeout(60):
                while not (await process.stdout.readline()).decode().startswith(words):
                    pass

        await until("Received 1 svid after ")
        server.entries["b"] = entry("b", "/b")
        await until("Received 2 svids after ")
        await agent.stop()
        async with asyncio.timeout(60):
            assert b"rpc error: code = Unavailable" in await process.stderr.readline()
        process.kill()
        await process.wait()

    async def test_healthcheck(self, server, start_agent):
        agent = await start_agent()
        socket = str(agent.config.socket_path)
        assert await run("healthcheck", "-socketPath", socket) == (0, "Agent is healthy.\n", "")
        code, out, _ = await run("healthcheck", "-socketPath", socket, "--verbose")
        checking, state, healthy = out.splitlines()
        assert (code, checking, healthy) == (0, "Checking agent health...", "Agent is healthy.")
        assert state.startswith("State: ready since ")
        server.denial = DenialReason.AGENT_BANNED
        await agent.until(Phase.BANNED)
        code, out, err = await run("healthcheck", "-socketPath", socket, "-verbose")
        assert (code, err) == (1, 'Agent is unhealthy: agent returned status "NOT_SERVING"\n')
        assert "State: banned by the server since" in out

    async def test_healthcheck_without_an_agent(self, folder):
        socket = str(folder / "none.sock")
        unable = "Agent is unhealthy: unable to determine health\n"
        assert await run("healthcheck", "-socketPath", socket) == (1, "", unable)
        code, out, err = await run("healthcheck", "-socketPath", socket, "-verbose")
        assert (code, out) == (1, "Checking agent health...\n")
        assert err.startswith("Failed to check health: rpc error: code = Unavailable")
        assert err.endswith(unable)
