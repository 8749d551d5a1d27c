"""What libraries set on a context: protocol settings reach every generation, trust and verification stay ours."""

import ssl

import pytest

from authsec_sdk.tls import ContextSettingError, tls_server_context
from authsec_sdk.tls.settings import REQUIRED_OPTIONS

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def test_alpn_is_kept_over_rotations(world, shake):
    server, client = world.server(alpn=("h2", "http/1.1")), world.client()
    client.set_alpn_protocols(["h2"])
    for _ in range(2):
        assert shake(server, client).server.selected_alpn_protocol() == "h2"
        world.rotate_svids()


def test_setting_the_same_protocols_again_builds_nothing(world):
    client = world.client(alpn=("http/1.1",))
    number = client.generation
    for _ in range(100):  # httpcore sets them for each connection
        client.set_alpn_protocols(["http/1.1"])
    assert client.generation == number


def test_views_share_everything_but_settings(world, shake):
    server = world.server(alpn=("h2", "http/1.1"))
    first = world.client(alpn=("http/1.1",))
    second = first.view(alpn=["h2"])
    third = second.view()
    for _ in range(2):
        first.set_alpn_protocols(["http/1.1"])
        protocols = [shake(server, context).client.selected_alpn_protocol() for context in (first, second, third)]
        assert protocols == ["http/1.1", "h2", "h2"]
        world.rotate_svids()
    assert isinstance(second, ssl.SSLContext)


@pytest.mark.parametrize("protocols", ["h2", ["x" * 256], [""], ["é"]])
def test_wrong_alpn_changes_nothing(world, protocols):
    client = world.client(alpn=("h2",))
    with pytest.raises((TypeError, ValueError, ssl.SSLError)):
        client.set_alpn_protocols(protocols)
    assert client._settings.alpn == ("h2",)
    with pytest.raises((TypeError, ValueError, ssl.SSLError)):
        client.view(alpn=protocols)


def test_tls_1_3_is_the_minimum_unless_1_2_is_allowed(world, shake):
    server, client = world.server(), world.client()
    assert server.minimum_version is client.minimum_version is TLS13
    assert shake(server, client).client.version() == "TLSv1.3"
    client.minimum_version = TLS12
    client.maximum_version = TLS12
    assert not shake(server, client).done
    server.minimum_version = TLS12
    pipe = shake(server, client)
    assert pipe.client.version() == "TLSv1.2"
    name, _, _ = pipe.client.cipher()
    assert name.startswith("ECDHE-")
    assert "GCM" in name or "CHACHA20" in name


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.SSLv3, ssl.TLSVersion.MINIMUM_SUPPORTED, 771 - 1]
)
def test_wrong_minimum_versions(world, version):
    with pytest.raises(ContextSettingError, match="TLSv1_2 or TLSv1_3"):
        world.client(minimum_version=version)
    client = world.client()
    with pytest.raises(ContextSettingError, match="TLSv1_2 or TLSv1_3"):
        client.minimum_version = version
    assert client.minimum_version is TLS13


def test_tls_1_2_offers_forward_secrecy_and_authenticated_encryption_only(world):
    server = world.server(minimum_version=TLS12)
    names = {cipher["name"] for cipher in server._generation().inner.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert names
    assert all(name.startswith("ECDHE-") and name.endswith(("SHA256", "SHA384", "POLY1305")) for name in names)
    assert not any("CBC" in name or "SHA-" in name for name in names)


@pytest.mark.parametrize("ciphers", ["ALL", "AES256-GCM-SHA384", "ECDHE+AES", "PSK", "aNULL", "DHE+AESGCM"])
def test_wrong_ciphers_change_nothing(world, shake, ciphers):
    server = world.server(minimum_version=TLS12)
    before = server.get_ciphers()
    with pytest.raises(ContextSettingError, match="ECDHE"):
        server.set_ciphers(ciphers)
    assert server.get_ciphers() == before
    assert shake(server, world.client()).done


def test_ciphers_and_curve_reach_the_connection(world, shake):
    server, client = world.server(minimum_version=TLS12), world.client(minimum_version=TLS12)
    client.maximum_version = TLS12
    client.set_ciphers("ECDHE+CHACHA20")
    client.set_ecdh_curve("prime256v1")
    for _ in range(2):
        assert "CHACHA20" in shake(server, client).client.cipher()[0]
        world.rotate_svids()
    with pytest.raises(ssl.SSLError):
        client.set_ciphers("no-such-cipher")


def test_ciphers_do_not_lower_the_security_level(world):
    """`@SECLEVEL` is part of a cipher list for OpenSSL, and decides which keys and signatures a chain may have."""
    server = world.server(minimum_version=ssl.TLSVersion.TLSv1_2)
    level = server.security_level
    with pytest.raises(ContextSettingError, match="SECLEVEL"):
        server.set_ciphers("ECDHE+AESGCM:@SECLEVEL=0")
    assert server.security_level == server._generation().inner.security_level == level
    server.set_ciphers(f"ECDHE+AESGCM:@SECLEVEL={level + 1}")
    assert server._generation().inner.security_level == level + 1


@pytest.mark.parametrize("option", [1 << 0, 1 << 18], ids=["no extended master secret", "unsafe renegotiation"])
def test_options_that_weaken_tls12_are_refused(world, option):
    server = world.server(minimum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ContextSettingError, match="extended master secrets"):
        server.options |= option
    assert not server.options & option


def test_a_setting_made_while_another_thread_begins_a_connection_is_not_lost(world):
    """What that connection got must not be taken for the newest by those after it."""
    server = world.server()
    generations = server._generations

    class SetMeanwhile:
        def __getattr__(self, name):
            return getattr(generations, name)

        def current(self, settings):
            generation = generations.current(settings)
            server._generations = generations
            server.set_alpn_protocols(["h2"])  # as another thread at this very moment
            return generation

    server._generations = SetMeanwhile()
    assert server._generation().settings.alpn == ()
    assert server._generation().settings.alpn == ("h2",)


def test_options_that_guard_verification_cannot_be_cleared(world):
    server = world.server()
    assert {ssl.OP_NO_TICKET, ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION} == set(REQUIRED_OPTIONS)
    assert server.options & REQUIRED_OPTIONS == REQUIRED_OPTIONS
    for option in REQUIRED_OPTIONS:
        with pytest.raises(ContextSettingError, match="verifies its peer anew"):
            server.options &= ~option
    server.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    assert server._generation().inner.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    assert not server._generation().inner.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert server._generation().inner.options & REQUIRED_OPTIONS == REQUIRED_OPTIONS


def test_verify_flags_take_strictness_and_nothing_else(world, shake):
    server = world.server()
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    assert server._generation().inner.verify_flags & ssl.VERIFY_X509_STRICT
    assert shake(server, world.client()).done
    for flags in (
        ssl.VERIFY_DEFAULT,
        server.verify_flags & ~ssl.VERIFY_X509_PARTIAL_CHAIN,
        server.verify_flags | ssl.VERIFY_ALLOW_PROXY_CERTS,
        server.verify_flags | ssl.VERIFY_CRL_CHECK_LEAF,
    ):
        with pytest.raises(ContextSettingError, match="VERIFY_X509_STRICT"):
            server.verify_flags = flags


def test_verification_cannot_be_switched_off(world):
    client = world.client()
    for mode in (ssl.CERT_NONE, ssl.CERT_OPTIONAL):  # requests with verify=False
        with pytest.raises(ContextSettingError, match="CERT_REQUIRED"):
            client.verify_mode = mode
    client.verify_mode = ssl.CERT_REQUIRED  # urllib3, for each connection
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert tls_server_context(world.server_source).verify_mode is ssl.CERT_NONE


def test_host_names_are_not_checked_and_cannot_be(world):
    client = world.client()
    assert client.check_hostname is False
    client.check_hostname = False
    with pytest.raises(ContextSettingError, match="SPIFFE ID"):
        client.check_hostname = True


def test_other_trust_is_ignored(world):
    client = world.client()
    client.load_verify_locations("/no/such/file", cadata="nonsense")  # requests loads certifi's into our context
    client.load_default_certs()
    client.load_default_certs(ssl.Purpose.SERVER_AUTH)
    client.set_default_verify_paths()
    assert client.cert_store_stats()["x509_ca"] == 1
    assert len(client.get_ca_certs()) == 1


def test_other_credentials_are_refused(world):
    server = world.server()
    with pytest.raises(ContextSettingError, match="SVID"):
        server.load_cert_chain("cert.pem", "key.pem")
    with pytest.raises(ContextSettingError, match="pre-shared"):
        server.set_psk_server_callback(lambda _identity: b"key")
    with pytest.raises(ContextSettingError, match="pre-shared"):
        world.client().set_psk_client_callback(lambda _hint: ("me", b"key"))


def test_neither_tickets_nor_authentication_after_the_handshake(world, shake):
    server = world.server()
    assert server.num_tickets == 0
    server.num_tickets = 0
    with pytest.raises(ContextSettingError, match="tickets"):
        server.num_tickets = 2
    client = world.client()
    client.post_handshake_auth = False
    with pytest.raises(ContextSettingError, match="handshake"):
        client.post_handshake_auth = True
    with pytest.raises(ContextSettingError, match="handshake"):
        shake(server, client).server.verify_client_post_handshake()


def test_a_key_log_is_written_only_where_asked_for(world, shake, tmp_path):
    client = world.client()
    assert client.keylog_filename is None
    client.keylog_filename = str(tmp_path / "keys.log")
    for _ in range(2):
        assert shake(world.server(), client).done
        world.rotate_svids()
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys.log").read_text()
    client.keylog_filename = None
    assert client._generation().inner.keylog_filename is None


def test_a_key_log_that_cannot_be_written_changes_nothing(world, shake, tmp_path):
    client = world.client()
    with pytest.raises(OSError, match="No such file"):
        client.keylog_filename = str(tmp_path / "missing" / "keys.log")
    assert shake(world.server(), client).done


def test_classes_of_connections_stay_ours(world):
    client = world.client()
    client.sslobject_class = ssl.SSLObject
    with pytest.raises(ContextSettingError, match="sslobject_class"):
        client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_a_context_tells_what_it_is_and_is_not_pickled(world):
    server = world.server()
    assert repr(server) == "<SpiffeSSLContext server peer='required' rejections=0>"
    with pytest.raises(TypeError, match="not pickled"):
        server.__reduce__()


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_context_is_for_one_side(world, side):
    context = world.client() if side == "client" else world.server()
    with pytest.raises(ssl.SSLError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=side == "client")


def test_the_facade_itself_would_refuse_everybody(world, shake, foreign):
    """Should anything ever reach OpenSSL's context of the facade itself: it has no identity and trusts nobody."""
    for context in (world.server(), world.client()):
        assert ssl._ssl._SSLContext.cert_store_stats(context) == {"x509": 0, "crl": 0, "x509_ca": 0}
        assert ssl._ssl._SSLContext.verify_mode.__get__(context) == ssl.CERT_REQUIRED


def test_one_protocol_name_is_not_taken_for_a_list_of_letters(world):
    for make in (world.client, world.server):
        with pytest.raises(TypeError, match="a list of names"):
            make(alpn="h2")
