"""The systemd attestor against a real message bus on which a stand-in for systemd answers."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.selectors import Selector
from icp_agent.workloadattestors import systemd
from icp_agent.workloadattestors.systemd import SystemdAttestor, SystemdError
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

dbus_fast = pytest.importorskip("dbus_fast", reason="no D-Bus library here (dbus-fast)")
pytestmark = pytest.mark.anyio
Place = Callable[[str], PeerCredentials]

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


@pytest.fixture
def bus(short_path: Path) -> Iterator[str]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("no D-Bus daemon here (dbus-daemon)")
    (short_path / "bus.conf").write_text(BUS.format(path=short_path / "bus"))
    command = ["dbus-daemon", f"--config-file={short_path / 'bus.conf'}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


class FakeSystemd:
    """Answers what systemd's manager and units answer."""

    def __init__(self) -> None:
        self.units: dict[int, tuple[str, str]] = {}
        self.error = "org.freedesktop.systemd1.NoUnitForPID"
        self.meanwhile: Callable[[], None] = lambda: None
        self.signature = "o"

    def handle(self, message: Any) -> Any:
        if message.member == "GetUnitByPID":
            (pid,) = message.body
            if pid not in self.units:
                return dbus_fast.Message.new_error(message, self.error, "no unit")
            self.meanwhile()
            return dbus_fast.Message.new_method_return(
                message, self.signature, [f"/org/freedesktop/systemd1/unit/u{pid}"]
            )
        if message.member == "Get" and message.path.startswith("/org/freedesktop/systemd1/unit/u"):
            interface, name = message.body
            assert interface == "org.freedesktop.systemd1.Unit"
            value = self.units[int(message.path.rpartition("/u")[2])][("Id", "FragmentPath").index(name)]
            return dbus_fast.Message.new_method_return(message, "v", [dbus_fast.Variant("s", value)])
        return None


@pytest.fixture
async def manager(bus: str) -> AsyncIterator[FakeSystemd]:
    from dbus_fast.aio import MessageBus

    fake = FakeSystemd()
    connection = await MessageBus(bus_address=bus).connect()
    connection.add_message_handler(fake.handle)
    await connection.request_name("org.freedesktop.systemd1")
    yield fake
    connection.disconnect()
    await connection.wait_for_disconnect()


async def test_upstreams_selectors(bus: str, manager: FakeSystemd, place: Place, peer: Any) -> None:
    manager.units[peer.pid] = ("nginx.service", "/lib/systemd/system/nginx.service")
    assert await SystemdAttestor(bus).attest(place("0::/system.slice/nginx.service\n")) == {
        Selector("systemd", "id:nginx.service"),
        Selector("systemd", "fragment_path:/lib/systemd/system/nginx.service"),
    }


async def test_a_unit_without_a_file(bus: str, manager: FakeSystemd, place: Place, peer: Any) -> None:
    manager.units[peer.pid] = ("session-3.scope", "")
    assert await SystemdAttestor(bus).attest(place("0::/x\n")) == {Selector("systemd", "id:session-3.scope")}


async def test_a_process_of_no_unit(bus: str, manager: FakeSystemd, place: Place) -> None:
    assert not manager.units
    assert await SystemdAttestor(bus).attest(place("0::/x\n")) == frozenset()


async def test_other_refusals_are_failures(bus: str, manager: FakeSystemd, place: Place) -> None:
    manager.error = "org.freedesktop.DBus.Error.AccessDenied"
    with pytest.raises(SystemdError, match="AccessDenied"):
        await SystemdAttestor(bus).attest(place("0::/x\n"))


async def test_an_answer_that_makes_no_sense(bus: str, manager: FakeSystemd, place: Place, peer: Any) -> None:
    manager.units[peer.pid] = ("a", "b")
    manager.signature = "s"
    with pytest.raises(SystemdError, match="makes no sense"):
        await SystemdAttestor(bus).attest(place("0::/x\n"))


async def test_no_systemd_on_the_bus(bus: str, place: Place) -> None:
    with pytest.raises(SystemdError):
        await SystemdAttestor(bus).attest(place("0::/x\n"))


async def test_no_bus(place: Place) -> None:
    with pytest.raises(SystemdError, match="cannot be asked"):
        await SystemdAttestor("unix:path=/nonexistent").attest(place("0::/x\n"))


async def test_a_process_that_moves_meanwhile(
    bus: str, manager: FakeSystemd, place: Place, proc: Callable[..., None], peer: Any
) -> None:
    manager.units[peer.pid] = ("a.service", "")
    manager.meanwhile = lambda: proc("0::/system.slice/b.service\n")
    with pytest.raises(CallerGoneError, match="moved to another control group"):
        await SystemdAttestor(bus).attest(place("0::/system.slice/a.service\n"))


async def test_a_process_that_ended(place: Place, peer: Any) -> None:
    credentials = place("0::/x\n")
    peer.end()
    with pytest.raises(CallerGoneError):
        await SystemdAttestor("unix:path=/nonexistent").attest(credentials)


async def test_no_descriptor_is_left(bus: str, manager: FakeSystemd, place: Place, peer: Any) -> None:
    manager.units[peer.pid] = ("a.service", "")
    credentials = place("0::/x\n")
    await SystemdAttestor(bus).attest(credentials)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        await SystemdAttestor(bus).attest(credentials)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_settings_are_none(data: Callable[..., Any]) -> None:
    assert systemd.read(data())(Telemetry()).name == "systemd"
    with pytest.raises(ConfigurationError, match="unknown key"):
        systemd.read(data("x = 1"))
