"""A configuration that is right, for tests to spoil."""

from collections.abc import Callable
from pathlib import Path

import pytest

from authsec_sdk import hcl
from icp_server.ca.composer_registry import known_composers
from icp_server.config import Overrides, ServerConfig
from icp_server.config.load import parse_config
from icp_server.nodeattestors.registry import known_attestors

SERVER = """
    trust_domain = "example.org"
    data_dir = "./.data"
"""

PLUGINS = """
    DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "./.data/db.sqlite3" } }
    KeyManager "memory" { plugin_data = {} }
    NodeAttestor "join_token" { plugin_data {} }
"""

Read = Callable[..., ServerConfig]


@pytest.fixture
def read() -> Read:
    """Read a configuration with these texts in its sections."""

    def _read(
        server: str = "", *, plugins: str = PLUGINS, top: str = "", base: str = SERVER, **overrides: object
    ) -> ServerConfig:
        text = f"server {{{base}\n{server}\n}}\nplugins {{{plugins}\n}}\n{top}"
        flags = Overrides(config=Path("server.conf"), **overrides)  # type: ignore[arg-type]
        return parse_config(hcl.parse(text, "server.conf"), flags, known_attestors(), known_composers())

    return _read
