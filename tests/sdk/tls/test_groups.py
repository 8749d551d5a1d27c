"""Key-exchange groups: OpenSSL's choice stays, one can be chosen, and what a Python cannot do is said."""

import ssl

import pytest

from authsec_sdk.tls import ContextSettingError, SpiffeSSLContext
from authsec_sdk.tls.groups import apply_groups

BY_LIST = hasattr(ssl.SSLContext, "set_groups")


def test_both_sides_agree_on_the_group_chosen(world, shake):
    server, client = world.server(), world.client()
    server.set_groups("secp384r1")
    assert shake(server, client).done
    client.set_ecdh_curve("X25519")
    assert shake(server, client).client_error is not None, "they have no group in common"
    server.set_ecdh_curve("X25519")
    assert shake(server, client).done
    world.rotate_svids()
    assert shake(server, client).done
    client.set_groups("secp384r1")
    assert shake(server, client).client_error is not None, "the choice outlives a rotation"


@pytest.mark.parametrize("wrong", ["", "nothing", "X25519:nothing", "\0"])
def test_wrong_groups_are_refused_and_change_nothing(world, shake, wrong):
    client = world.client()
    with pytest.raises(ContextSettingError):
        client.set_groups(wrong)
    assert client._settings.groups is None
    assert shake(world.server(), client).done


@pytest.mark.skipif(BY_LIST, reason="this Python takes lists of groups")
@pytest.mark.parametrize(
    ("groups", "words"), [("X25519:prime256v1", r"needs Python 3\.15"), ("X25519MLKEM768", r"need Python 3\.15")]
)
def test_what_this_python_cannot_do_is_said(world, groups, words):
    with pytest.raises(ContextSettingError, match=words):
        world.client().set_groups(groups)


def test_a_list_goes_to_a_python_that_takes_one():
    """As Python 3.15 does it: on the class, one text."""
    taken = []

    class Newer(ssl.SSLContext):
        pass

    context = Newer(ssl.PROTOCOL_TLS_CLIENT)
    apply_groups(context, "X25519:prime256v1", choose=lambda on, groups: taken.append((on, groups)))
    assert taken == [(context, "X25519:prime256v1")]


def test_other_algorithms_cannot_be_chosen(world):
    for context in (world.client(), world.server()):
        for setter in (context.set_ciphersuites, context.set_client_sigalgs, context.set_server_sigalgs):
            with pytest.raises(ContextSettingError, match="OpenSSL's own"):
                setter("whatever")


def test_no_setter_of_the_standard_library_reaches_the_empty_facade_alone():
    """What a later Python adds would be set on our own context, which makes no connections, and do nothing."""
    setters = {name for name in dir(ssl.SSLContext) if name.startswith(("set_", "load_"))}
    ours = {name for name in setters if name in vars(SpiffeSSLContext)}
    # npn is gone from protocols, dh parameters are of suites we refuse, the callback is an alias of sni_callback
    harmless = {"set_npn_protocols", "load_dh_params", "set_servername_callback"}
    assert setters - ours - harmless == set()
