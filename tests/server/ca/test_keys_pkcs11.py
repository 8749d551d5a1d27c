"""Keys in a real SoftHSM token: they never leave it, and a token that was lost is found again."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import SpiffeID
from icp_server.ca.keys import public_key_info, scheme_of, signing_with
from icp_server.ca.keys_registry import open_key_manager
from icp_server.ca.keys_remote import RemoteKeyError, is_remote
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.errors import KeyStoreError, Unavailable
from icp_server.domain.issued import LeafRequest
from icp_server.domain.key_settings import SecretPlace, SecretSource, TokenKeys
from icp_server.domain.key_type import KeyType
from icp_server.domain.token_template import JWTRequest

pkcs11 = pytest.importorskip("pkcs11")

LIBRARIES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so"))
PIN = "rosebud-4711"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not any(path.exists() for path in LIBRARIES) or shutil.which("softhsm2-util") is None,
        reason="SoftHSM is not installed (softhsm2)",
    ),
    pytest.mark.xdist_group("softhsm"),
]


class HSM:
    """A SoftHSM with tokens in a folder. The module reads its environment once, so all tests share one folder."""

    module = next((path for path in LIBRARIES if path.exists()), LIBRARIES[0])

    def __init__(self, folder: Path) -> None:
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")
        self.pin_file = folder / "pin"
        self.set_pin(PIN)

    def set_pin(self, pin: str) -> None:
        self.pin_file.write_text(pin + "\n")
        self.pin_file.chmod(0o600)

    def make_token(self, label: str) -> None:
        arguments = ["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)
        self.refresh()

    def refresh(self) -> None:
        """Let the module of this process see what another one changed."""
        self.library.reinitialize()

    @property
    def library(self) -> Any:
        return pkcs11.lib(str(self.module))

    def settings(self, label: str, **more: Any) -> TokenKeys:
        pin = more.pop("pin", SecretSource(SecretPlace.FILE, str(self.pin_file)))
        more.setdefault("identifier", "one")
        return TokenKeys(self.module, label, pin, **more)


@pytest.fixture(scope="module")
def module_hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HSM]:
    hsm = HSM(tmp_path_factory.mktemp("hsm"))
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(hsm.configuration)
    yield hsm
    hsm.library.finalize()
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def hsm(module_hsm: HSM) -> Iterator[HSM]:
    yield module_hsm
    module_hsm.set_pin(PIN)


@pytest.fixture
def label(hsm: HSM, request: pytest.FixtureRequest) -> str:
    """A fresh token; its label."""
    name = f"t{abs(hash(request.node.name)) % 10**12}"
    hsm.make_token(name)
    return name


def signed(key: Any) -> None:
    """Sign with a key as authorities do, and verify it."""
    signature = signing_with(key, scheme_of(key))(b"data")
    if isinstance(key, rsa.RSAPrivateKey):
        key.public_key().verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())
    else:
        key.public_key().verify(signature, b"data", ec.ECDSA(scheme_of(key).hash))


def objects(hsm: HSM, label: str) -> list[Any]:
    """What is in the token, by a session of our own."""
    with hsm.library.get_token(token_label=label).open(user_pin=PIN) as session:
        kinds = (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY)
        wanted = [pkcs11.Attribute.EXTRACTABLE, pkcs11.Attribute.SENSITIVE, pkcs11.Attribute.NEVER_EXTRACTABLE,
                  pkcs11.Attribute.ALWAYS_SENSITIVE, pkcs11.Attribute.DECRYPT, pkcs11.Attribute.DERIVE]  # fmt: skip
        return [
            (
                found.object_class.name,
                found.label,
                found.id,
                [found[name] for name in wanted] if kind == kinds[0] else [],
            )
            for kind in kinds
            for found in session.get_objects({pkcs11.Attribute.CLASS: kind})
        ]


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda kind: kind.value)
def test_a_key_signs_and_never_leaves(hsm: HSM, label: str, key_type: KeyType) -> None:
    with open_key_manager(hsm.settings(label, timeout=60.0)) as keys:
        key = keys.generate("x509-CA-A", key_type)
        assert is_remote(key)
        signed(key)
        with pytest.raises(RemoteKeyError):
            key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(RemoteKeyError):
            key.private_numbers()
        with pytest.raises(RemoteKeyError):
            pickle.dumps(key)
        assert copy.deepcopy(key) is key
    kept = objects(hsm, label)
    assert {(kind, name) for kind, name, _, _ in kept} == {
        ("PRIVATE_KEY", "icp-server/one/x509-CA-A"),
        ("PUBLIC_KEY", "icp-server/one/x509-CA-A"),
    }
    assert [values for kind, _, _, values in kept if kind == "PRIVATE_KEY"] == [[False, True, True, True, False, False]]


@pytest.mark.parametrize("key_type", [KeyType.EC_P256, KeyType.RSA_2048], ids=lambda kind: kind.value)
def test_another_scheme_is_refused(hsm: HSM, label: str, key_type: KeyType) -> None:
    with open_key_manager(hsm.settings(label, timeout=60.0)) as keys:
        key = keys.generate("a", key_type)
        if isinstance(key, rsa.RSAPrivateKey):
            with pytest.raises(RemoteKeyError):
                key.sign(b"x", padding.PKCS1v15(), hashes.SHA512())
            with pytest.raises(RemoteKeyError):
                key.sign(b"x", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
            with pytest.raises(RemoteKeyError):
                key.decrypt(b"x", padding.PKCS1v15())
        else:
            with pytest.raises(RemoteKeyError):
                key.sign(b"x", ec.ECDSA(hashes.SHA512()))
            with pytest.raises(RemoteKeyError):
                key.exchange(ec.ECDH(), key.public_key())


def test_keys_are_found_again_by_name_and_replaced(hsm: HSM, label: str) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        assert keys.get("A") is None
        first, other = keys.generate("A", KeyType.EC_P256), keys.generate("B", KeyType.EC_P384)
    with open_key_manager(hsm.settings(label)) as keys:
        found = keys.get("A")
        assert found is not None
        assert public_key_info(found) == public_key_info(first)
        second = keys.generate("A", KeyType.EC_P256)
        assert public_key_info(second) != public_key_info(first)
        signed(second)
    with open_key_manager(hsm.settings(label)) as keys:
        replaced, kept = keys.get("A"), keys.get("B")
        assert replaced is not None
        assert kept is not None
        assert public_key_info(replaced) == public_key_info(second)
        assert public_key_info(kept) == public_key_info(other)
        signed(kept)
    assert len(objects(hsm, label)) == 4  # the first one is destroyed, both halves


def test_servers_share_a_token_by_identifier(hsm: HSM, label: str, tmp_path: Path) -> None:
    file = tmp_path / "private" / "identifier"
    with open_key_manager(hsm.settings(label, identifier="one")) as keys:
        keys.generate("A", KeyType.EC_P256)
    with open_key_manager(hsm.settings(label, identifier="", identifier_file=file)) as keys:
        assert keys.get("A") is None
        mine = keys.generate("A", KeyType.EC_P256)
    assert file.stat().st_mode & 0o777 == 0o600
    with open_key_manager(hsm.settings(label, identifier="", identifier_file=file)) as keys:
        again = keys.get("A")
        assert again is not None
        assert public_key_info(again) == public_key_info(mine)
    file.write_text("not an identifier\n")
    with (
        pytest.raises(KeyStoreError, match="holds no key identifier"),
        open_key_manager(hsm.settings(label, identifier="", identifier_file=file)),
    ):
        pass


def test_a_key_that_can_be_taken_out_is_not_used(hsm: HSM, label: str) -> None:
    with hsm.library.get_token(token_label=label).open(rw=True, user_pin=PIN) as session:
        session.generate_keypair(
            pkcs11.KeyType.RSA, 2048, store=True, label="icp-server/one/A", id=bytes(8),
            private_template={pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False},
        )  # fmt: skip
    with (
        open_key_manager(hsm.settings(label)) as keys,
        pytest.raises(KeyStoreError, match="can be taken out"),
    ):
        keys.get("A")


def test_half_a_key_is_not_used(hsm: HSM, label: str) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        keys.generate("A", KeyType.EC_P256)
        with hsm.library.get_token(token_label=label).open(rw=True) as session:
            for found in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}):
                found.destroy()
        with pytest.raises(KeyStoreError, match="half of a key"):
            keys.get("A")
        signed(keys.generate("A", KeyType.EC_P256))  # and making another one repairs it
    assert len(objects(hsm, label)) == 2


@pytest.mark.parametrize("lost", ["finalized", "reset", "logged out"])
def test_a_lost_session_is_opened_anew(hsm: HSM, label: str, lost: str) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        key = keys.generate("A", KeyType.EC_P256)
        signed(key)
        for _ in range(2):
            if lost == "finalized":
                hsm.library.finalize()
            elif lost == "reset":
                hsm.library.reinitialize()
            else:
                hsm.library.reinitialize()
                hsm.library.get_token(token_label=label).open(user_pin=PIN).close()
            signed(key)
            assert keys.get("A") is not None
        hsm.library.reinitialize()
        signed(keys.generate("A", KeyType.EC_P256))
    assert len(objects(hsm, label)) == 2


def test_a_token_that_is_pulled_and_put_back(hsm: HSM, label: str) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        key = keys.generate("A", KeyType.EC_P256)
        away = hsm.tokens.with_name("away")
        hsm.tokens.rename(away)
        hsm.tokens.mkdir()
        try:
            hsm.library.reinitialize()
            with pytest.raises(Unavailable, match="the key store cannot sign now"):
                signed(key)
            with pytest.raises(KeyStoreError, match="there is no PKCS #11 token"):
                keys.generate("B", KeyType.EC_P256)
        finally:
            shutil.rmtree(hsm.tokens)
            away.rename(hsm.tokens)
        hsm.library.reinitialize()
        signed(key)


def test_a_refused_pin_is_tried_once(hsm: HSM, label: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        key = keys.generate("A", KeyType.EC_P256)
        signed(key)
        hsm.set_pin("wrong-and-long")
        hsm.library.reinitialize()
        caplog.set_level(logging.DEBUG)
        for _ in range(5):
            with pytest.raises(Unavailable):
                signed(key)
        assert (
            sum("refuses the PIN" in record.message for record in caplog.records if "Cannot" not in record.message) == 1
        )
        hsm.set_pin(PIN)
        signed(key)
    assert "wrong-and-long" not in caplog.text
    assert PIN not in caplog.text


def test_a_wrong_pin_refuses_the_start_and_is_not_shown(hsm: HSM, label: str) -> None:
    hsm.set_pin("wrong-and-long")
    settings = hsm.settings(label)
    with pytest.raises(KeyStoreError, match=r"refuses the PIN \(file ") as caught, open_key_manager(settings):
        pass
    assert "wrong-and-long" not in str(caught.value)
    assert "wrong-and-long" not in repr(settings)


def test_pin_from_environment_and_credential(
    hsm: HSM, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_PIN", PIN)
    with open_key_manager(hsm.settings(label, pin=SecretSource(SecretPlace.ENVIRONMENT, "HSM_PIN"))) as keys:
        signed(keys.generate("A", KeyType.EC_P256))
    (tmp_path / "hsm-pin").write_text(PIN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with open_key_manager(hsm.settings(label, pin=SecretSource(SecretPlace.CREDENTIAL, "hsm-pin"))) as keys:
        assert keys.get("A") is not None
    for place, name in ((SecretPlace.ENVIRONMENT, "NO_SUCH"), (SecretPlace.CREDENTIAL, "no-such")):
        with (
            pytest.raises(KeyStoreError, match=f"there is no {place.value} {name}"),
            open_key_manager(hsm.settings(label, pin=SecretSource(place, name))),
        ):
            pass


def test_a_pin_file_open_to_others_is_refused(hsm: HSM, label: str) -> None:
    hsm.pin_file.chmod(0o644)
    with pytest.raises(KeyStoreError, match="chmod 600"), open_key_manager(hsm.settings(label)):
        pass


def test_what_is_not_there_is_named(hsm: HSM, label: str, tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="no PKCS #11 token 'nobody'"), open_key_manager(hsm.settings("nobody")):
        pass
    with (
        pytest.raises(KeyStoreError, match="serial number 'zz'"),
        open_key_manager(hsm.settings(label, token_serial="zz")),
    ):
        pass
    pin = SecretSource(SecretPlace.FILE, str(hsm.pin_file))
    missing = TokenKeys(tmp_path / "no.so", label, pin, identifier="one")
    with pytest.raises(KeyStoreError, match="cannot load the PKCS #11 module"), open_key_manager(missing):
        pass


def test_two_tokens_of_one_label_are_told_apart(hsm: HSM, label: str) -> None:
    hsm.make_token(label)
    serials = sorted(token.serial.decode().strip() for token in hsm.library.get_tokens(token_label=label))
    with pytest.raises(KeyStoreError, match=f"choose by token_serial .{serials[0]}, {serials[1]}"):
        open_key_manager(hsm.settings(label)).__enter__()
    with open_key_manager(hsm.settings(label, token_serial=serials[1])) as keys:
        keys.generate("A", KeyType.EC_P256)
    with open_key_manager(hsm.settings(label, token_serial=serials[0])) as keys:
        assert keys.get("A") is None


def test_many_threads_one_signer(hsm: HSM, label: str) -> None:
    with open_key_manager(hsm.settings(label, timeout=60.0)) as keys:
        key = keys.generate("A", KeyType.EC_P256)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: signed(key), range(64)))
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pkcs11")] == ["pkcs11_0"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pkcs11")]


def test_a_token_that_hangs_is_given_up_on(hsm: HSM, label: str) -> None:
    module = pytest.importorskip("icp_server.ca.keys_pkcs11_session")
    session = module.TokenSession(hsm.settings(label, timeout=0.2))
    release = threading.Event()
    with pytest.raises(KeyStoreError, match=r"did not answer for 0\.2 s"):
        session.run(lambda _: release.wait(60))
    started = time.monotonic()
    with pytest.raises(KeyStoreError, match="did not answer"):
        session.run(lambda _: None)
    assert time.monotonic() - started < 30  # at once: nothing queues behind what hangs
    release.set()
    until(lambda: _answers(session))
    session.close()


def _answers(session: Any) -> bool:
    try:
        session.run(lambda _: None)
    except KeyStoreError:
        return False
    return True


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


async def test_a_whole_authority_lives_in_the_token(
    hsm: HSM, label: str, store: Any, clock: Any, requester: Any
) -> None:
    with open_key_manager(hsm.settings(label)) as keys:
        signer = SVIDSigner(store.trust_domain, Lifetimes(), clock)
        tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
        kinds = slot_kinds(store, signer, tokens, CASettings(ca_ttl=timedelta(hours=24)))
        rotator = AuthorityRotator(store, keys, kinds, clock)
        await rotator.start()
        root = x509.load_der_x509_certificate(signer.authority.record.data)
        root.verify_directly_issued_by(root)
        workload = SpiffeID.parse(f"spiffe://{store.trust_domain}/w")
        (done,) = await signer.sign([LeafRequest(requester.csr(), workload)])
        assert done.value is not None
        x509.load_der_x509_certificate(done.value.chain[0]).verify_directly_issued_by(root)
        assert (await tokens.sign_jwt(JWTRequest(workload, ("a",)))).token.count(".") == 2
        hsm.library.reinitialize()
        (again,) = await signer.sign([LeafRequest(requester.csr(), workload)])
        assert again.value is not None
    (late,) = await signer.sign([LeafRequest(requester.csr(), workload)])
    assert isinstance(late.error, Unavailable)


def test_without_the_package_it_is_named(tmp_path: Path) -> None:
    """The extra is optional: its absence is a sentence, not a traceback."""
    code = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from pathlib import Path\n"
        "from icp_server.ca.keys_registry import open_key_manager\n"
        "from icp_server.domain.key_settings import *\n"
        "pin = SecretSource(SecretPlace.ENVIRONMENT, 'X')\n"
        "open_key_manager(TokenKeys(Path('x'), 'x', pin, identifier='x')).__enter__()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ConfigurationError.__name__ in done.stderr
    assert 'pip install "authsec-sdk[pkcs11]"' in done.stderr
