"""The plugins section: what is built, what is known and refused, and what each plugin's settings may be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_server.ca.composer_uniqueid import UniqueID
from icp_server.config import ServerConfig
from icp_server.domain.key_settings import DiskKeys, MemoryKeys, SecretPlace, SecretSource, TokenKeys
from icp_server.domain.upstream_settings import DiskUpstream, SpireUpstream

Read = Callable[..., ServerConfig]

SQL = 'DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "f" } }\n'
MEMORY = 'KeyManager "memory" { plugin_data {} }\n'


_PIN = 'pin_env = "P"\n'
_TOKEN = 'module_path = "m" token_label = "t"\n'


def _keys(name: str, data: str) -> str:
    return SQL + f'KeyManager "{name}" {{ plugin_data {{ {data} }} }}'


def _upstream(name: str, data: str) -> str:
    return SQL + MEMORY + f'UpstreamAuthority "{name}" {{ plugin_data {{ {data} }} }}'


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
        (
            SQL + 'KeyManager "aws_kms" {}',
            'KeyManager "aws_kms" is not supported yet (supported: disk, memory, pkcs11)',
        ),
        (SQL + MEMORY + 'NodeAttestor "aws_iid" {}', "is not supported yet (supported: "),
        (SQL + MEMORY + 'UpstreamAuthority "vault" {}', 'UpstreamAuthority "vault" is not supported yet'),
        (SQL + MEMORY + 'CredentialComposer "uniqeid" {}', "did you mean 'uniqueid'?"),
        (SQL + MEMORY + 'CredentialComposer "uniqueid" { plugin_data { x = 1 } }', "unknown key 'x'"),
        (_upstream("disk", 'key_file_path = "k"'), "cert_file_path in"),
        (_upstream("disk", 'cert_file_path = "c"'), "key_file_path in"),
        (_upstream("disk", 'cert_file_path = "c" key_file_path = "k" ttl = "1h"'), "unknown key 'ttl'"),
        (_upstream("spire", 'server_port = 1 workload_api_socket = "s"'), "server_address in"),
        (_upstream("spire", 'server_address = "a" workload_api_socket = "s"'), "server_port in"),
        (_upstream("spire", 'server_address = "a" server_port = 0 workload_api_socket = "s"'), "server_port"),
        (_upstream("spire", 'server_address = "a" server_port = 1'), "workload_api_socket in"),
        (
            _upstream(
                "spire",
                'server_address = "a" server_port = 1 workload_api_socket = "s" experimental { require_pq_kem = true }',
            ),
            "post-quantum",
        ),
        (SQL + MEMORY + 'Notifier "k8sbundle" {}', "is not supported yet"),
        (SQL + MEMORY + 'NodeAtestor "join_token" {}', "did you mean 'NodeAttestor'?"),
        (SQL + 'KeyManager "memory" { plugin_data { zot = 1 } }', "unknown key 'zot'"),
        (SQL + 'KeyManager "memory" { plugin_cmd = "/bin/x" }', "programs of their own are not run yet"),
        (SQL + 'KeyManager "memory" { plugin_dat {} }', "did you mean 'plugin_data'?"),
        (SQL + 'KeyManager "disk" { plugin_data {} }', "keys_path in"),
        (SQL + 'KeyManager "disk" { plugin_data { keys_pth = "k" } }', "did you mean 'keys_path'?"),
        (_keys("disk", 'keys_path = "k" seal_env = "A" seal_file = "b"'), "only one of seal_file, seal_env"),
        (_keys("disk", 'keys_path = "k" seal_credential = "/a/b"'), "is the name of a credential, not a path"),
        (_keys("pkcs11", 'module_path = "m" token_label = "t" key_identifier_value = "i"'), "one of pin_file, pin_env"),
        (_keys("pkcs11", _PIN + 'token_label = "t" key_identifier_value = "i"'), "module_path in"),
        (_keys("pkcs11", _PIN + 'module_path = "m" key_identifier_value = "i"'), "token_label in"),
        (_keys("pkcs11", _PIN + 'module_path = "m" token_label = "t"'), "exactly one of key_identifier_file"),
        (_keys("pkcs11", _PIN + 'key_identifier_file = "f" key_identifier_value = "i"'), "exactly one of"),
        (_keys("pkcs11", _PIN + 'module_path = "m" token_label = "t" key_identifier_value = "a/b"'), "letters, digits"),
        (_keys("pkcs11", _PIN + 'pin = "1234"'), "unknown key 'pin'"),
        (
            _keys("pkcs11", _PIN + 'timeout = "1ms" module_path = "m" token_label = "t" key_identifier_value = "i"'),
            "1s",
        ),
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
    assert read(plugins=SQL + MEMORY + disabled).plugins.key_manager == MemoryKeys()
    with pytest.raises(ConfigurationError, match="unknown key"):
        read(plugins=SQL + MEMORY + 'KeyManager "disk" { enabled = false plugin_data { x = "k" } }')


def test_settings_may_stand_in_a_file_of_their_own(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "keys.conf"
    file.write_text('keys_path = "/k"')
    plugins = f'{SQL} KeyManager "disk" {{ plugin_data_file = "{file}" }}'
    assert read(plugins=plugins).plugins.key_manager == DiskKeys(Path("/k"))
    with pytest.raises(ConfigurationError, match="both plugin_data and plugin_data_file"):
        read(plugins=f'{SQL} KeyManager "disk" {{ plugin_data_file = "{file}" plugin_data {{}} }}')


def test_keys_in_a_token(read: Read) -> None:
    text = """
        module_path = "/usr/lib/softhsm/libsofthsm2.so"
        token_label = "spire"
        token_serial = "abc"
        pin_file = "/etc/icp/pin"
        key_identifier_file = "/var/lib/icp/identifier"
        timeout = "3s"
    """
    assert read(plugins=_keys("pkcs11", text)).plugins.key_manager == TokenKeys(
        module=Path("/usr/lib/softhsm/libsofthsm2.so"),
        token_label="spire",
        token_serial="abc",
        pin=SecretSource(SecretPlace.FILE, "/etc/icp/pin"),
        identifier_file=Path("/var/lib/icp/identifier"),
        timeout=3.0,
    )


def test_a_sealed_key_file(read: Read) -> None:
    found = read(plugins=_keys("disk", 'keys_path = "k" seal_credential = "keys"')).plugins.key_manager
    assert found == DiskKeys(Path("k"), SecretSource(SecretPlace.CREDENTIAL, "keys"))


def test_upstream_authorities(read: Read) -> None:
    assert read().plugins.upstream is None
    disk = 'cert_file_path = "c" key_file_path = "k" bundle_file_path = "b"'
    assert read(plugins=_upstream("disk", disk)).plugins.upstream == DiskUpstream(Path("c"), Path("k"), Path("b"))
    spire = (
        'server_address = "a" server_port = "8081" workload_api_socket = "/s" experimental { require_pq_kem = false }'
    )
    assert read(plugins=_upstream("spire", spire)).plugins.upstream == SpireUpstream("a", 8081, Path("/s"))


def test_credential_composers(read: Read) -> None:
    assert read().plugins.composers == ()
    ((name, composer),) = read(plugins=SQL + MEMORY + 'CredentialComposer "uniqueid" {}').plugins.composers
    assert name == "uniqueid"
    assert isinstance(composer, UniqueID)
