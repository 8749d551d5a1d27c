"""Every credential composer there is, by the name the configuration has for it: ours, and those of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, cast

from authsec_sdk.hcl import Fields
from icp_server.ca.composer_uniqueid import UniqueID
from icp_server.domain.composer import CredentialComposer, ReadComposer

GROUP: Final = "icp_server.credential_composers"


def _read_uniqueid(data: Fields) -> CredentialComposer:
    data.finish()
    return UniqueID()


BUILT_IN: Final[Mapping[str, ReadComposer]] = MappingProxyType({"uniqueid": _read_uniqueid})


def known_composers() -> Mapping[str, ReadComposer]:
    """What a configuration may name. Code of other packages is loaded when a configuration names it."""
    found = {point.name: _loaded_later(point) for point in entry_points(group=GROUP)}
    return MappingProxyType({**found, **BUILT_IN})


def _loaded_later(point: EntryPoint) -> ReadComposer:
    def read(data: Fields) -> CredentialComposer:
        try:
            reader = cast("ReadComposer", point.load())
            composer = reader(data)
        except Exception as error:
            raise data.error(
                f"the credential composer {point.name!r} cannot be loaded ({point.value}): {error}"
            ) from error
        if not isinstance(composer, CredentialComposer):
            raise data.error(f"the credential composer {point.name!r} ({point.value}) gives no CredentialComposer")
        return composer

    return read
