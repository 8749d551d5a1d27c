"""``authsec run``, the process: files, the command, signals, disks that fail, and the end."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authsec_sdk.filesource import SPIFFE_FILES, SPIFFE_HELPER, FileLayout, FileSource
from authsec_sdk.spiffe import JWTSVID, parse_bundle_map
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

LISTENER = """
import os, signal, sys, time
from pathlib import Path
def got(number, _):
    os.write(1, f"got {signal.Signals(number).name}\\n".encode())  # print may be under way, and refuses a second one
for name in sys.argv[2:]:
    signal.signal(signal.Signals[name], got)
print("begins", Path(sys.argv[1], "svid.pem").exists(), flush=True)
while True:
    time.sleep(0.05)
"""


ORPHANS = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.2)
    os._exit(0)
os.wait()
print("left", flush=True)
time.sleep(600)
"""

WAITER = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
while True:
    print(signal.sigwait([signal.SIGUSR1]).name, flush=True)
"""


def listener(folder: Path, *signals: str) -> list[str]:
    """Return a command that says which signals it gets."""
    return ["--", sys.executable, "-c", LISTENER, str(folder), *signals]


def serial(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / "svid.pem").read_bytes()).serial_number


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_once_writes_what_fits_together_with_the_right_modes(run: Any, folder: Path) -> None:
    with run("--once") as authsec:
        assert authsec.wait() == 0
    with FileSource(folder, trust_domain="example.org", layout=SPIFFE_HELPER) as source:
        assert str(source.x509_context.svid.id) == "spiffe://example.org/payments"
    modes = {path.name: mode(path) for path in folder.iterdir()}
    assert modes == {"svid.pem": 0o644, "svid_key.pem": 0o600, "svid_bundle.pem": 0o644}


def test_umask_and_modes_asked_for(run: Any, folder: Path) -> None:
    wrapper = "import os, sys; os.umask(0); os.execv(sys.argv[1], sys.argv[1:])"
    with run("--once", "--key-mode", "640", "--cert-mode", "0444", wrapper=wrapper) as authsec:
        assert authsec.wait() == 0
    assert (mode(folder / "svid_key.pem"), mode(folder / "svid.pem")) == (0o640, 0o444)


def test_federated_bundles_are_a_map_and_never_in_the_pem(
    run: Any, folder: Path, agent: FakeWorkloadAPI, ca: TestCA
) -> None:
    foreign = TestCA("other.org")
    agent.federate(foreign)
    with run("--once", "--bundle-map", "trust_bundles.json") as authsec:
        assert authsec.wait() == 0
    assert x509.load_pem_x509_certificates((folder / "svid_bundle.pem").read_bytes()) == [ca.certificate]
    bundles = parse_bundle_map((folder / "trust_bundles.json").read_bytes())
    assert {str(domain): bundle.x509_authorities for domain, bundle in bundles.items()} == {
        "example.org": (ca.certificate,),
        "other.org": (foreign.certificate,),
    }
    layout = FileLayout("svid.pem", "svid_key.pem", SPIFFE_FILES.bundle)
    with FileSource(folder, trust_domain="example.org", layout=layout) as source:
        assert sorted(map(str, source.x509_context.bundles)) == ["example.org", "other.org"]


def test_federated_bundles_are_in_the_pem_where_that_is_asked_for(
    run: Any, folder: Path, agent: FakeWorkloadAPI
) -> None:
    agent.federate(TestCA("other.org"))
    with run("--once", "--unsafe-federated-in-pem") as authsec:
        assert authsec.wait() == 0
    assert len(x509.load_pem_x509_certificates((folder / "svid_bundle.pem").read_bytes())) == 2


def test_one_file_for_certificate_and_key(run: Any, folder: Path) -> None:
    with run("--once", "--svid-file", "both.pem", "--key-file", "both.pem") as authsec:
        assert authsec.wait() == 0
    data = (folder / "both.pem").read_bytes()
    leaf = x509.load_pem_x509_certificate(data)
    assert load_pem_private_key(data, None).public_key() == leaf.public_key()
    assert mode(folder / "both.pem") == 0o600


def test_jwt_files(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with run("--once", "--no-x509", "--jwt", "token=vault,backup", "--jwt-bundle", "keys.json") as authsec:
        assert authsec.wait() == 0
    svid = JWTSVID.unsafe_parse((folder / "token").read_text())
    assert set(svid.audience) == {"vault", "backup"}
    assert list(json.loads((folder / "keys.json").read_text())) == ["example.org"]
    assert mode(folder / "token") == mode(folder / "keys.json") == 0o600
    assert svid.token not in authsec.errors()


def test_the_command_begins_when_the_files_are_there_and_hears_of_rotations(
    run: Any, folder: Path, agent: FakeWorkloadAPI
) -> None:
    with run("--signal", "HUP", *listener(folder, "SIGHUP")) as authsec:
        authsec.until_said("begins True")
        before = serial(folder)
        agent.rotate()
        authsec.until_said("got SIGHUP")
        assert serial(folder) != before
        agent.rotate()
        authsec.until_said("got SIGHUP", times=2)


def test_nothing_is_started_before_there_is_an_identity(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    agent.deny()
    with run(*listener(folder)) as authsec:
        authsec.until_event("log")
        assert "begins" not in authsec.said()
        agent.recover()
        authsec.until_said("begins True")


def test_a_rotation_during_the_start_ends_no_command(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    """SIGHUP ends a program that does not listen yet; so it is sent when the program does."""
    slow = f"import time, pathlib; print('slow', flush=True)\nwhile not pathlib.Path({str(folder / 'go')!r}).exists():"
    slow += " time.sleep(0.02)\n" + LISTENER
    with run("--signal", "HUP", "--", sys.executable, "-c", slow, folder, "SIGHUP") as authsec:
        authsec.until_said("slow")
        before = serial(folder)
        agent.rotate()
        authsec.until(lambda: serial(folder) != before)
        (folder / "go").touch()
        authsec.until_said("got SIGHUP")
        assert authsec.names().count("started") == 1


def test_restart(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with run("--restart", *listener(folder)) as authsec:
        authsec.until_said("begins")
        agent.rotate()
        authsec.until_said("begins", times=2)
        authsec.process.send_signal(signal.SIGTERM)
        assert authsec.wait() == 128 + signal.SIGTERM


def test_a_command_that_ignores_sigterm_is_restarted_all_the_same(
    run: Any, folder: Path, agent: FakeWorkloadAPI
) -> None:
    with run("--restart", "--grace", "0.2", *listener(folder, "SIGTERM")) as authsec:
        authsec.until_said("begins")
        agent.rotate()
        authsec.until_said("begins", times=2)
        assert "got SIGTERM" in authsec.said()


def test_the_end_of_a_command_that_ignores_sigterm(run: Any, folder: Path) -> None:
    with run("--grace", "0.2", *listener(folder, "SIGTERM")) as authsec:
        authsec.until_said("begins")
        authsec.process.send_signal(signal.SIGTERM)
        assert authsec.wait() == 128 + signal.SIGKILL
        assert "got SIGTERM" in authsec.said()


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit(0)", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_the_exit_code_is_the_command_s(run: Any, code: str, expected: int) -> None:
    with run("--", sys.executable, "-c", code) as authsec:
        assert authsec.wait() == expected


def test_arguments_and_streams_are_the_command_s(run: Any) -> None:
    code = "import sys; print(sys.argv[1:], repr(sys.stdin.read()))"
    with run("--", sys.executable, "-c", code, "--output", "x y", "--", "-z") as authsec:
        assert authsec.wait() == 0
        assert authsec.said() == "['--output', 'x y', '--', '-z'] ''\n"


def test_no_such_command(run: Any) -> None:
    with run("--", "/does/not/exist") as authsec:
        assert authsec.wait() == 1
        assert "cannot run '/does/not/exist'" in authsec.errors()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGWINCH"])
def test_signals_are_handed_on(run: Any, folder: Path, name: str) -> None:
    with run(*listener(folder, name)) as authsec:
        authsec.until_said("begins")
        authsec.process.send_signal(signal.Signals[name])
        authsec.until_said(f"got {name}")
        assert authsec.process.poll() is None


def test_no_zombie_stays(run: Any, folder: Path) -> None:
    """As process 1 of a container, or as here a subreaper, it inherits what the command leaves behind."""
    wrapper = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with run("--", sys.executable, "-c", ORPHANS, wrapper=wrapper) as authsec:
        authsec.until_said("left")
        children = Path(f"/proc/{authsec.process.pid}/task/{authsec.process.pid}/children")
        authsec.until(lambda: len(children.read_text().split()) == 1)


def test_the_end_without_a_command(run: Any, folder: Path) -> None:
    with run() as authsec:
        authsec.until_event("written")
        authsec.process.send_signal(signal.SIGTERM)
        assert authsec.wait() == 0
    assert (folder / "svid_key.pem").exists()


@pytest.mark.parametrize("swap", [[], ["--swap"]])
def test_remove_at_end_leaves_nothing(run: Any, folder: Path, swap: list[str]) -> None:
    with run("--remove-at-end", *swap) as authsec:
        authsec.until_event("written")
        authsec.process.send_signal(signal.SIGINT)
        assert authsec.wait() == 130
    assert list(folder.iterdir()) == []


def test_swap_shows_one_generation_at_a_time(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with run("--swap", "--jwt", "token=vault") as authsec:
        authsec.until(lambda: (folder / "token").exists() and (folder / "svid.pem").exists())
        seen = set()
        for _ in range(5):
            before = (folder / "..data").readlink()
            agent.rotate()
            authsec.until(lambda before=before: (folder / "..data").readlink() != before)
            generation = folder / (folder / "..data").readlink()
            leaf = x509.load_pem_x509_certificate((generation / "svid.pem").read_bytes())
            key = load_pem_private_key((generation / "svid_key.pem").read_bytes(), None)
            assert key.public_key() == leaf.public_key()
            assert (generation / "token").exists()
            seen.add(leaf.serial_number)
        assert len(seen) == 5
    assert len(list(folder.glob("..authsec-*"))) == 1


def test_swap_keeps_what_is_not_there_yet_after_a_new_start(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with run("--swap", "--once", "--jwt", "token=vault") as authsec:
        assert authsec.wait() == 0
    token = (folder / "token").read_text()
    (folder / "..authsec-crashed").mkdir()
    agent.tokens.answer = b"garbage"
    with run("--swap", "--jwt", "token=vault") as authsec:
        authsec.until_event("written")
        assert (folder / "token").read_text() == token
        assert not (folder / "..authsec-crashed").exists()
        assert "started" not in authsec.names()


def test_a_folder_that_cannot_be_written_to_keeps_the_last_good_files(
    run: Any, folder: Path, agent: FakeWorkloadAPI
) -> None:
    """A directory in the place of one file refuses every update, whoever we are; the others stay as they were."""
    with run("--bundle-map", "map.json", *listener(folder)) as authsec:
        authsec.until_said("begins")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        full = folder.rename(folder.with_suffix(".away"))
        agent.rotate()
        authsec.until_event("kept")
        assert {path.name: path.read_bytes() for path in full.iterdir()} == before
        full.rename(folder)
        authsec.until(lambda: (folder / "svid.pem").read_bytes() != before["svid.pem"])
        assert authsec.process.poll() is None


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_keeps_the_last_good_files(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    try:
        folder.chmod(0o755)
        with run("--health", "127.0.0.1:0", *listener(folder)) as authsec:
            authsec.until_said("begins")
            before = {path.name: path.read_bytes() for path in folder.iterdir()}
            with (folder / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
                while True:
                    filler.write(bytes(512))
            agent.rotate()
            authsec.until_event("kept")
            found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "filler"}
            assert found == before
            assert "No space left" in authsec.errors()
            [listening] = [event for event in authsec.events() if event["event"] == "listening"]
            assert probe(listening["port"], "/live")[0] == 503
            (folder / "filler").unlink()
            authsec.until(lambda: (folder / "svid.pem").read_bytes() != before["svid.pem"])
            authsec.until(lambda: probe(listening["port"], "/live")[0] == 200)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def probe(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_health(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    agent.deny()
    with run("--health", "127.0.0.1:0", "--jwt", "token=vault") as authsec:
        authsec.until_event("listening")
        [listening] = [event for event in authsec.events() if event["event"] == "listening"]
        assert probe(listening["port"], "/live")[0] == 200
        code, body = probe(listening["port"], "/ready")
        assert code == 503
        statuses = {"x509_write_status": "unwritten", "jwt_write_status": {str(folder / "token"): "unwritten"}}
        assert body == {"status": "Service Unavailable", "health": {"file_write_statuses": statuses}}
        agent.recover()
        authsec.until(lambda: probe(listening["port"], "/ready")[0] == 200)


def test_a_pid_file_s_process_is_signalled(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITER], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            (folder / "pid").write_text(f"{other.pid}\n")
            with run("--pid-file", folder / "pid", "--signal", "USR1") as authsec:
                assert other.stdout.readline() == "SIGUSR1\n"
                agent.rotate()
                assert other.stdout.readline() == "SIGUSR1\n"
                (folder / "pid").write_text("-1\n")
                agent.rotate()
                authsec.until_event("not signalled")
                assert authsec.process.poll() is None
        finally:
            other.kill()


def test_an_outage_changes_nothing(run: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    with run("--signal", "HUP", *listener(folder, "SIGHUP")) as authsec:
        authsec.until_said("begins")
        agent.stop()
        authsec.until_event("log")
        agent.start()
        agent.rotate()
        authsec.until_said("got SIGHUP")


def test_too_late(run: Any, agent: FakeWorkloadAPI) -> None:
    agent.deny()
    with run("--once", "--timeout", "0.3") as authsec:
        assert authsec.wait() == 3
        assert "svid.pem, svid_key.pem, svid_bundle.pem could not be written within 0.3 s" in authsec.errors()


def test_a_folder_that_everybody_may_write_to(run: Any, folder: Path) -> None:
    folder.chmod(0o777)
    with run("--once") as authsec:
        assert authsec.wait() == 1
        assert "everybody may write to" in authsec.errors()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--dir"),
        (["--dir", ".", "--signal", "HUP"], "--signal to whom"),
        (["--dir", ".", "--signal", "NOPE", "--", "x"], "'NOPE' is no signal"),
        (["--dir", ".", "--signal", "KILL", "--", "x"], "SIGKILL cannot make a program read"),
        (["--dir", ".", "--restart"], "--restart is for a CMD"),
        (["--dir", ".", "--once", "--", "x"], "written once"),
        (["--dir", ".", "--jwt", "token"], "NAME=AUDIENCE"),
        (["--dir", ".", "--jwt", "token="], "needs an audience"),
        (["--dir", ".", "--jwt", "../token=a"], "is not the name of a file"),
        (["--dir", ".", "--jwt", "svid.pem=a"], "two files have one name"),
        (["--dir", ".", "--key-mode", "0044"], "is no mode"),
        (["--dir", ".", "--health", "x"], "HOST:PORT"),
        (["--dir", ".", "--pid-file", "x"], "needs the signal"),
        (["--dir", ".", "--no-x509"], "nothing to write"),
        (["--dir", ".", "--daemon-mode", "true"], "--daemon-mode is for --config"),
        (["--config", "x", "--signal", "HUP"], "do not go together"),
        (["--config", "x", "--", "y"], "do not go together"),
        (["--dir", ".", "--grace", "-1"], "no number of seconds"),
    ],
)
def test_wrong_use(authsec: Any, arguments: list[str], words: str) -> None:
    with authsec("run", *arguments) as running:
        assert running.wait() == 2
        assert words in running.errors()


def test_every_signal_at_once_ends_it_once(run: Any, folder: Path) -> None:
    with run(*listener(folder)) as authsec:
        authsec.until_said("begins")
        for _ in range(5):
            authsec.process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert authsec.wait() == 128 + signal.SIGTERM
