"""PostgreSQL's settings: both kinds of connection string, TLS, the pool, and every refusal."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from icp_server.config import ServerConfig
from icp_server.config.connection_string import ConnectionStringError, parse_connection_string
from icp_server.domain.postgres_settings import PostgresPool, PostgresSettings, PostgresTLS, TLSMode

Read = Callable[..., ServerConfig]

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


def postgres(connection: str, more: str = "") -> str:
    escaped = connection.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'DataStore "sql" {{ plugin_data {{ database_type = "postgres" connection_string = "{escaped}" {more} }} }}\n'
        'KeyManager "memory" { plugin_data {} }\n'
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("user=spire", PostgresSettings((("localhost", 5432),), "spire", "spire")),
        (
            "dbname=icp user=spire password='it''s'".replace("''", "\\'") + " host=db.test port=6543 sslmode=disable",
            PostgresSettings((("db.test", 6543),), "spire", "icp", "it's", tls=PostgresTLS(TLSMode.DISABLE)),
        ),
        (
            r"user = 'a b' dbname= a\ b  password=x\\y sslmode=require",
            PostgresSettings((("localhost", 5432),), "a b", "a b", "x\\y", tls=PostgresTLS(TLSMode.REQUIRE)),
        ),
        ("user=u password=''", PostgresSettings((("localhost", 5432),), "u", "u")),
        (
            "user=u host=a,b port=1,2",
            PostgresSettings((("a", 1), ("b", 2)), "u", "u"),
        ),
        ("user=u host=a,b port=7", PostgresSettings((("a", 7), ("b", 7)), "u", "u")),
        (
            "host=/run/postgresql user=u sslmode=require",
            PostgresSettings((("/run/postgresql", 5432),), "u", "u", tls=PostgresTLS(TLSMode.DISABLE)),
        ),
        ("postgresql://u@h", PostgresSettings((("h", 5432),), "u", "u")),
        (
            "postgres://u:p%40ss@h1:1,h2/db?sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=3",
            PostgresSettings(
                (("h1", 1), ("h2", 5432)),
                "u",
                "db",
                "p@ss",
                tls=PostgresTLS(TLSMode.VERIFY_FULL, Path("/ca.pem")),
                connect_timeout=3.0,
            ),
        ),
        ("postgresql://u@[::1]:7/db", PostgresSettings((("::1", 7),), "u", "db")),
        ("postgresql:///db?host=/tmp&user=u&application_name=x&passfile=/p", PostgresSettings(
            (("/tmp", 5432),), "u", "db", password_file=Path("/p"), tls=PostgresTLS(TLSMode.DISABLE),
            application_name="x",
        )),
    ],
)  # fmt: skip
def test_both_kinds_of_string(text: str, settings: PostgresSettings) -> None:
    assert parse_connection_string(text) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no user"),
        ("host=h", "names no user"),
        ("user", "no '=' after it"),
        ("user=u dbname", "no '=' after it"),
        ("a b=c", "no '=' after it"),
        ("user='u", "without an end"),
        ("user='u'x=y", "right behind"),
        ("user=u password=x\\", "ends in a backslash"),
        ("user=u port=0", "is no port"),
        ("user=u port=x", "is no port"),
        ("user=u port=99999", "is no port"),
        ("user=u host=a,b port=1,2,3", "2 hosts and 3 ports"),
        ("user=u sslmode=strict", "sslmode 'strict' is unknown"),
        ("user=u sslmod=require", "did you mean 'sslmode'?"),
        ("user=u service=x", "service files are not read"),
        ("user=u hostaddr=1.2.3.4", "name the address as host"),
        ("user=u connect_timeout=soon", "no number of seconds"),
        ("user=u connect_timeout=-1", "no number of seconds"),
        ("postgresql://u@[::1/db", "malformed IPv6"),
        ("postgresql://u@h/db?sslmode", "without a value"),
        ("postgresql://u@h/%ff", "encode no text"),
        ("postgresql://u@h/a%00b", "zero byte"),
        ("postgresql://u@h:x/db", "is no port"),
    ],
)
def test_what_is_wrong_is_refused_without_the_text(text: str, words: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        parse_connection_string(text)
    assert words in str(caught.value)


@given(user=TEXT, password=TEXT, database=TEXT)
def test_any_text_survives_both_kinds(user: str, password: str, database: str) -> None:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    wanted = (user, password, database)
    pairs = parse_connection_string(f"user={quoted(user)} password={quoted(password)} dbname={quoted(database)} host=h")
    url = parse_connection_string(
        f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(database, safe='')}"
    )
    assert (pairs.user, pairs.password, pairs.database) == wanted
    assert (url.user, url.password, url.database) == wanted


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for candidate in (text, f"postgresql://{text}", f"user=u {text}"):
        try:
            parse_connection_string(candidate)
        except ConnectionStringError:
            pass


def test_files_and_pool_have_settings_of_their_own(read: Read) -> None:
    more = (
        'root_ca_path = "/ca" client_cert_path = "/c" client_key_path = "/k" '
        'max_open_conns = 9 max_idle_conns = 3 conn_max_lifetime = "1h" disable_migration = true'
    )
    config = read(plugins=postgres("user=u host=db.test sslmode=verify-full", more))
    settings = config.plugins.data_store
    assert isinstance(settings, PostgresSettings)
    assert settings.tls == PostgresTLS(TLSMode.VERIFY_FULL, Path("/ca"), Path("/c"), Path("/k"))
    assert settings.pool == PostgresPool(9, 3, timedelta(hours=1))
    assert not settings.migrate
    assert not any("connection_string" in warning for warning in config.warnings)


def test_idle_connections_are_never_more_than_there_may_be(read: Read) -> None:
    settings = read(plugins=postgres("user=u", "max_open_conns = 4")).plugins.data_store
    assert isinstance(settings, PostgresSettings)
    assert settings.pool.max_idle == 4


@pytest.mark.parametrize(
    ("connection", "warned"),
    [
        ("user=u host=db.test", True),
        ("user=u host=db.test sslmode=verify-ca sslrootcert=/ca", True),
        ("user=u host=db.test sslmode=verify-full sslrootcert=/ca", False),
        ("user=u host=127.0.0.1", False),
        ("user=u host=/run/postgresql", False),
    ],
)
def test_a_database_nobody_verifies_is_warned_of(read: Read, connection: str, warned: bool) -> None:
    warnings = read(plugins=postgres(connection)).warnings
    assert any("use verify-full" in warning for warning in warnings) is warned


@pytest.mark.parametrize(
    ("connection", "more", "words"),
    [
        ("user=u password=s3cret sslmode=verify-full host=h", "", "needs root_ca_path"),
        ("user=u password=s3cret sslcert=/c", "", "and not the other"),
        ("user=u password=s3cret", 'client_key_path = "/k"', "and not the other"),
        ("user=u password=s3cret sslrootcert=/a", 'root_ca_path = "/a"', "say the same"),
        ("user=u password=s3cret", "max_open_conns = 2", "must be at least 3"),
        ("user=u password=s3cret", "max_idle_conns = -1", "must be at least 0"),
        ("user=u password=s3cret", 'ro_connection_string = "user=u"', "a replica lags"),
        ("user=u password=s3cret options=x", "", "'options' is not supported"),
        ("u password=s3cret", "", "no '=' after it"),
    ],
)
def test_refusals_name_the_setting_and_no_secret(read: Read, connection: str, more: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(plugins=postgres(connection, more))
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.line is not None
