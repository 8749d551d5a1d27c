"""The `systemd` workload attestor: the unit a process belongs to, as the node's systemd says over D-Bus."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authsec_sdk.errors import UnavailableError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.selectors import Selector
from icp_agent.ports import MakeWorkloadAttestor, WorkloadAttestor
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus

NAME: Final = "systemd"
_SERVICE: Final = "org.freedesktop.systemd1"
_MANAGER: Final = "/org/freedesktop/systemd1"
_NO_UNIT: Final = frozenset({f"{_SERVICE}.NoUnitForPID", f"{_SERVICE}.NoSuchProcess"})


class SystemdError(UnavailableError):
    """systemd cannot be asked, or answers what makes no sense."""


@dataclass(frozen=True, slots=True)
class SystemdSettings:
    """What `plugin_data` says, which is nothing; called, it makes the attestor. `bus` None is the system bus."""

    bus: str | None = None

    def __call__(self, telemetry: Telemetry) -> WorkloadAttestor:
        """Make the attestor.

        Raises:
            ConfigurationError: the D-Bus library is not installed.
        """
        del telemetry
        return SystemdAttestor(self.bus)


class SystemdAttestor:
    """Selectors `systemd:id:NAME` and `systemd:fragment_path:PATH`, the latter for units that come from a file.

    systemd tells a unit by the process's control group. None for a process of no unit. Processes of a user's own
    systemd all belong to `user@UID.service`: what such a user calls its units is not asked. Not held: that the file
    still says what it said when the unit was started.
    """

    name = NAME

    def __init__(self, bus: str | None = None) -> None:
        self._bus = bus

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        """What systemd says of the process's unit.

        Raises:
            CallerGoneError: the process has ended, or moved to another control group meanwhile.
            SystemdError: systemd cannot be asked.
        """
        before = peer.read_cgroups()
        values = await self._ask(peer.pid)
        if peer.read_cgroups() != before:
            raise CallerGoneError(f"process {peer.pid} moved to another control group")
        return frozenset(Selector(NAME, value) for value in values)

    async def _ask(self, pid: int) -> list[str]:
        from dbus_fast import BusType, DBusError
        from dbus_fast.aio import MessageBus

        bus = MessageBus(bus_address=self._bus, bus_type=BusType.SYSTEM)
        try:
            await bus.connect()
            unit = await _call(bus, _MANAGER, f"{_SERVICE}.Manager", "GetUnitByPID", "u", [pid])
            if unit is None:
                return []
            return [
                f"{selector}:{value}"
                for selector, name in (("id", "Id"), ("fragment_path", "FragmentPath"))
                if (value := await _property(bus, unit, name))
            ]
        except (OSError, EOFError, DBusError) as error:
            raise SystemdError(f"systemd cannot be asked: {error}") from error
        finally:
            bus.disconnect()


async def _property(bus: "MessageBus", unit: str, name: str) -> str:
    variant = await _call(
        bus, unit, "org.freedesktop.DBus.Properties", "Get", "ss", [f"{_SERVICE}.Unit", name], answer="v"
    )
    if variant is None or variant.signature != "s":
        raise SystemdError(f"systemd says no {name} of {unit}")
    return str(variant.value)


async def _call(
    bus: "MessageBus", path: str, interface: str, member: str, signature: str, body: list[Any], *, answer: str = "o"
) -> Any:
    """The one value of the answer; None if the process has no unit."""
    from dbus_fast import Message, MessageType

    call = Message(destination=_SERVICE, path=path, interface=interface, member=member, signature=signature, body=body)
    reply = await bus.call(call)
    if reply is None:
        raise SystemdError("systemd does not answer")
    if reply.message_type is MessageType.ERROR:
        if reply.error_name in _NO_UNIT:
            return None
        raise SystemdError(f"systemd refuses: {reply.error_name}")
    if reply.signature != answer:
        raise SystemdError(f"systemd answers {member} with what makes no sense")
    return reply.body[0]


def read(data: Fields) -> MakeWorkloadAttestor:
    """Read the settings: there are none.

    Raises:
        ConfigurationError: there is one, or the D-Bus library is not installed.
    """
    data.finish()
    try:
        import dbus_fast  # noqa: F401 - is it there?
    except ImportError:
        raise data.error(
            "the WorkloadAttestor 'systemd' needs the D-Bus library: pip install 'authsec-sdk[systemd]'"
        ) from None
    return SystemdSettings()
