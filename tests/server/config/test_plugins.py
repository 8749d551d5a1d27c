"""The plugins section: what is built, what is known and refused, and what each plugin's settings may be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_server.config import ServerConfig

Read = Callable[..., ServerConfig]

SQL = 'DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "f" } }\n'
MEMORY = 'KeyManager "memory" { plugin_data {} }\n'


def _sql(connection: str, more: str = "") -> str:
    return (
        f'DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{connection}" {more} }} }}\n'
        + MEMORY
    )


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        (MEMORY, 'plugin type "DataStore" constraint not satisfied: expected exactly 1 but got 0'),
        (SQL, 'plugin type "KeyManager" constraint not satisfied: expected exactly 1 but got 0'),
        (SQL + MEMORY + 'KeyManager "disk" { plugin_data { keys_path = "k" } }', "expected exactly 1 but got 2"),
        (SQL + MEMORY + MEMORY, "configured twice"),
        (SQL + 'KeyManager "memry" {}', "did you mean 'memory'?"),
        (SQL + 'KeyManager "aws_kms" {}', 'KeyManager "aws_kms" is not supported yet (supported: disk, memory)'),
        (SQL + MEMORY + 'NodeAttestor "aws_iid" {}', "is not supported yet (supported: "),
        (SQL + MEMORY + 'UpstreamAuthority "disk" {}', 'UpstreamAuthority "disk" is not supported yet'),
        (SQL + MEMORY + 'Notifier "k8sbundle" {}', "is not supported yet"),
        (SQL + MEMORY + 'NodeAtestor "join_token" {}', "did you mean 'NodeAttestor'?"),
        (SQL + 'KeyManager "memory" { plugin_data { zot = 1 } }', "unknown key 'zot'"),
        (SQL + 'KeyManager "memory" { plugin_cmd = "/bin/x" }', "programs of their own are not run yet"),
        (SQL + 'KeyManager "memory" { plugin_dat {} }', "did you mean 'plugin_data'?"),
        (SQL + 'KeyManager "disk" { plugin_data {} }', "keys_path in"),
        (SQL + 'KeyManager "disk" { plugin_data { keys_pth = "k" } }', "did you mean 'keys_path'?"),
        (MEMORY + 'DataStore "sql" { plugin_data { connection_string = "f" } }', "database_type"),
        (MEMORY + 'DataStore "sql" { plugin_data { database_type = "sqlite3" } }', "connection_string"),
        (
            MEMORY + 'DataStore "sql" { plugin_data { database_type = "mysql" connection_string = "f" } }',
            "database_type 'mysql' is not supported yet",
        ),
        (
            MEMORY + 'DataStore "sql" { plugin_data { database_type = "oracle" connection_string = "f" } }',
            "database_type 'oracle' is unknown",
        ),
        (_sql(":memory:"), "in memory"),
        (_sql("file:memdb?mode=memory&cache=shared"), "in memory"),
        (_sql("file:f?cache=shared"), "SQLite parameters"),
        (_sql("file://elsewhere/f"), "names no file of this machine"),
        (_sql("f", 'ro_connection_string = "g"'), "a replica lags"),
        (_sql("f", 'root_ca_path = "g"'), "root_ca_path has no meaning for a SQLite file"),
    ],
)
def test_what_is_wrong_is_refused(read: Read, plugins: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(plugins=plugins)
    assert words in str(caught.value)
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("connection", "path"),
    [
        ("./.data/db.sqlite3", "./.data/db.sqlite3"),
        ("file:db.sqlite3", "db.sqlite3"),
        ("file:///var/lib/a%20b", "/var/lib/a b"),
        ("file://localhost/var/lib/db", "/var/lib/db"),
    ],
)
def test_a_database_is_named_by_path_or_uri(read: Read, connection: str, path: str) -> None:
    assert read(plugins=_sql(connection)).plugins.data_store.path == Path(path)


def test_pool_settings_hold_for_sqlite_anyway(read: Read) -> None:
    warnings = read(plugins=_sql("f", "max_open_conns = 1 max_idle_conns = 2")).warnings
    assert [warning.split(":")[0] for warning in warnings] == [
        'DataStore "sql".plugin_data.max_open_conns',
        'DataStore "sql".plugin_data.max_idle_conns',
    ]


def test_a_disabled_plugin_is_not_there_but_is_checked(read: Read) -> None:
    disabled = 'KeyManager "disk" { enabled = false plugin_data { keys_path = "k" } }'
    assert read(plugins=SQL + MEMORY + disabled).plugins.key_manager.keys_path is None
    with pytest.raises(ConfigurationError, match="unknown key"):
        read(plugins=SQL + MEMORY + 'KeyManager "disk" { enabled = false plugin_data { x = "k" } }')


def test_settings_may_stand_in_a_file_of_their_own(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "keys.conf"
    file.write_text('keys_path = "/k"')
    plugins = f'{SQL} KeyManager "disk" {{ plugin_data_file = "{file}" }}'
    assert read(plugins=plugins).plugins.key_manager.keys_path == Path("/k")
    with pytest.raises(ConfigurationError, match="both plugin_data and plugin_data_file"):
        read(plugins=f'{SQL} KeyManager "disk" {{ plugin_data_file = "{file}" plugin_data {{}} }}')
