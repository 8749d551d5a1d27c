"""The `plugins` section: which data store, key manager and node attestors, each with its own settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from authsec_sdk import hcl
from authsec_sdk.hcl import Body, Fields
from icp_server.config import schema
from icp_server.config.data_store import read_data_store
from icp_server.config.key_manager import read_key_manager
from icp_server.config.model import Plugins
from icp_server.config.schema import PLUGIN_TYPES, PluginType
from icp_server.config.section import open_section
from icp_server.config.upstream_authority import read_upstream_authority
from icp_server.domain.composer import ReadComposer
from icp_server.ports import MakeNodeAttestor, ReadNodeAttestor


@dataclass(frozen=True, slots=True)
class _Plugin:
    """One enabled plugin and its data."""

    name: str
    data: Fields


def read_plugins(
    top: Fields,
    notes: list[str],
    node_attestors: Mapping[str, ReadNodeAttestor],
    composers: Mapping[str, ReadComposer],
) -> Plugins:
    """Read every plugin.

    Raises:
        ConfigurationError: a type or name is unknown or not built, one is missing, or a setting is wrong.
    """
    plugins = top.block("plugins")
    if plugins is None:
        raise top.error("plugins section must be configured")
    attestors = _attestors(plugins, notes, node_attestors)
    composer_kind = PluginType(dict.fromkeys(composers, schema.NO_SETTINGS))
    composed = _of_type(plugins, "CredentialComposer", composer_kind, notes, own_settings=True)
    chosen = {name: _of_type(plugins, name, kind, notes) for name, kind in PLUGIN_TYPES.items()}
    plugins.finish()
    for name, kind in PLUGIN_TYPES.items():
        _check_number(plugins, name, kind, len(chosen[name]))
    return Plugins(
        data_store=read_data_store(chosen["DataStore"][0].data, notes),
        key_manager=read_key_manager(chosen["KeyManager"][0].name, chosen["KeyManager"][0].data),
        node_attestors=attestors,
        upstream=next(
            (read_upstream_authority(found.name, found.data, notes) for found in chosen["UpstreamAuthority"]), None
        ),
        composers=tuple((found.name, composers[found.name](found.data)) for found in composed),
    )


def _attestors(
    plugins: Fields, notes: list[str], known: Mapping[str, ReadNodeAttestor]
) -> Mapping[str, MakeNodeAttestor]:
    """Let each attestor read its own settings: which there are, the attestor knows, also one of another package."""
    kind = PluginType(dict.fromkeys(known, schema.NO_SETTINGS), schema.NODE_ATTESTORS_NOT_YET - known.keys())
    found = _of_type(plugins, "NodeAttestor", kind, notes, own_settings=True)
    return {plugin.name: known[plugin.name](plugin.data) for plugin in found}


def _of_type(
    plugins: Fields, type_name: str, kind: PluginType, notes: list[str], *, own_settings: bool = False
) -> list[_Plugin]:
    found: list[_Plugin] = []
    for name, body in plugins.labelled(type_name):
        where = f'{type_name} "{name}"'
        if name not in kind.built:
            raise body.error(_not_built(type_name, name, kind))
        if any(plugin.name == name for plugin in found):
            raise body.error(f"{where} is configured twice")
        fields = open_section(Fields(body, where), schema.PLUGIN, notes)
        data = _data(fields, body)
        if not own_settings:
            open_section(data, kind.built[name], notes)
        if fields.boolean("enabled") is not False:
            found.append(_Plugin(name, data))
    return found


def _not_built(type_name: str, name: str, kind: PluginType) -> str:
    built = ", ".join(sorted(kind.built)) or "none"
    if name in kind.not_yet:
        return f'{type_name} "{name}" is not supported yet (supported: {built})'
    near = difflib.get_close_matches(name, [*kind.built, *kind.not_yet], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f'no built-in plugin "{name}" for type "{type_name}" (supported: {built}){hint}'


def _data(fields: Fields, body: Body) -> Fields:
    data = fields.block("plugin_data")
    file = fields.text("plugin_data_file")
    if file and data is not None:
        raise fields.error(f"{fields.where} has both plugin_data and plugin_data_file", "plugin_data_file")
    if file:
        return Fields(hcl.load(file), f"{fields.where} plugin_data_file")
    return data or Fields(Body((), body.position, body.file), f"{fields.where} plugin_data")


def _check_number(plugins: Fields, type_name: str, kind: PluginType, number: int) -> None:
    if kind.least <= number and (kind.most is None or number <= kind.most):
        return
    wanted = f"exactly {kind.least}" if kind.least == kind.most else f"at most {kind.most}"
    raise plugins.error(
        f'plugin type "{type_name}" constraint not satisfied: expected {wanted} but got {number}', type_name
    )
