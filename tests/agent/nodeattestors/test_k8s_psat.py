"""k8s_psat at the agent: the token as it is in the pod's file now, for the cluster of that name."""

import pytest

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.spire.attestation.k8s_psat import ClusterToken

pytestmark = pytest.mark.anyio


async def test_the_token_is_read_at_each_attempt(make_attestor, tmp_path):
    path = tmp_path / "token"
    attestor = make_attestor("k8s_psat", f'cluster = "main" token_path = "{path}"')
    for token in ("first", "second"):
        path.write_text(f"{token}\n")
        async with attestor.begin() as attestation:
            assert ClusterToken.parse(attestation.payload) == ClusterToken("main", token)
            assert token not in repr(attestation)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * 40_000])
async def test_no_token(make_attestor, tmp_path, content):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigurationError, match="token"):
        async with make_attestor("k8s_psat", f'cluster = "main" token_path = "{tmp_path}/token"').begin():
            pass


async def test_a_server_that_asks_for_more_gets_nothing(make_attestor, tmp_path):
    (tmp_path / "token").write_text("token")
    async with make_attestor("k8s_psat", f'cluster = "main" token_path = "{tmp_path}/token"').begin() as attestation:
        with pytest.raises(OperatorError, match="k8s_psat has none"):
            await attestation.respond(b"sign this")


@pytest.mark.parametrize(("data", "words"), [("", "cluster is required"), ('cluster = "a" x = 1', "unknown key 'x'")])
def test_settings_that_are_refused(make_attestor, data, words):
    with pytest.raises(ConfigurationError, match=words):
        make_attestor("k8s_psat", data)
