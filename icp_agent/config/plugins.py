"""The `plugins` section: which of SPIRE's built-in plugins are wanted, with the data of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authsec_sdk.hcl import Body, Fields, load
from icp_agent.nodeattestors.registry import LATER as LATER_NODE_ATTESTORS
from icp_agent.nodeattestors.registry import known_attestors
from icp_agent.ports import MakeNodeAttestor, MakeWorkloadAttestor
from icp_agent.workloadattestors.registry import LATER as LATER_WORKLOAD_ATTESTORS
from icp_agent.workloadattestors.registry import WORKLOAD_ATTESTORS

_LATER_STORES = frozenset({"aws_secretsmanager", "gcp_secretmanager"})


@dataclass(frozen=True, slots=True)
class Plugins:
    """What the section chooses. `keys_directory` None: keys in memory alone."""

    keys_directory: Path | None
    node_attestor: MakeNodeAttestor
    workload_attestors: tuple[MakeWorkloadAttestor, ...]


def read_plugins(section: Fields) -> Plugins:
    """Read the section.

    Raises:
        ConfigurationError: a plugin is missing, unknown, external, or comes later; or its data is wrong.
    """
    with section:
        key_managers = _enabled(section, "KeyManager", _KEY_MANAGERS, frozenset())
        attestors = known_attestors()
        later = LATER_NODE_ATTESTORS - attestors.keys()
        node_attestors = _enabled(section, "NodeAttestor", frozenset(attestors), later)
        workload = _enabled(section, "WorkloadAttestor", frozenset(WORKLOAD_ATTESTORS), LATER_WORKLOAD_ATTESTORS)
        _enabled(section, "SVIDStore", frozenset(), _LATER_STORES)
    key_manager, keys = _one(section, "KeyManager", key_managers)
    directory = _key_manager(key_manager, keys)
    attestor, data = _one(section, "NodeAttestor", node_attestors)
    node_attestor = attestors[attestor](data)
    if not workload:
        raise section.error("plugins: at least one WorkloadAttestor must be configured")
    return Plugins(directory, node_attestor, tuple(WORKLOAD_ATTESTORS[name](data) for name, data in workload.items()))


_KEY_MANAGERS = frozenset({"disk", "memory"})


def _key_manager(name: str, data: Fields) -> Path | None:
    if name == "memory":
        data.finish()
        return None
    with data:
        directory = data.text("directory")
    if not directory:
        raise data.error("the KeyManager 'disk' needs a 'directory'")
    return Path(directory)


def _one(section: Fields, kind: str, found: Mapping[str, Fields]) -> tuple[str, Fields]:
    if len(found) != 1:
        raise section.error(f"plugins: exactly one {kind} must be configured, not {len(found)}", kind)
    return next(iter(found.items()))


def _enabled(section: Fields, kind: str, known: frozenset[str], later: frozenset[str]) -> Mapping[str, Fields]:
    found: dict[str, Fields] = {}
    for name, body in section.labelled(kind):
        plugin = Fields(body, f"plugins.{kind}.{name}")
        if name in found:
            raise plugin.error(f"plugins: {kind} {name!r} is configured twice")
        data = _data(plugin)
        if plugin.boolean("enabled") is False:
            plugin.finish()
            continue
        if plugin.text("plugin_cmd"):
            raise plugin.error("external plugins ('plugin_cmd') are not supported: only built-in ones", "plugin_cmd")
        plugin.text("plugin_checksum")
        plugin.texts("plugin_args")
        plugin.finish()
        if name in later:
            raise plugin.error(f"the {kind} {name!r} is not supported yet: it comes in a later version")
        if name not in known:
            names = ", ".join(sorted(known)) or "none yet"
            raise plugin.error(f"there is no {kind} {name!r}; there are: {names}")
        found[name] = data
    return found


def _data(plugin: Fields) -> Fields:
    data, path = plugin.block("plugin_data"), plugin.text("plugin_data_file")
    where = f"{plugin.where}.plugin_data"
    if path:
        if data is not None:
            raise plugin.error("only one of 'plugin_data' and 'plugin_data_file' can be given", "plugin_data_file")
        file: Body = load(path)
        return Fields(file, where)
    return data if data is not None else Fields((), where)
