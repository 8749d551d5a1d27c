"""The self-test at import: passes here, and fails with words where a private part of `ssl` is not as we rely on."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import authsec_sdk
from authsec_sdk.tls.selftest import check


def test_this_python_is_as_expected():
    check()


class _Base(ssl.SSLContext):
    """A stand-in for the standard library's class of some other Python."""

    def __init_subclass__(cls):
        cls.__module__ = "ssl"


class OtherParameters(_Base):
    def _wrap_bio(self, incoming, outgoing, server_side, server_hostname=None, *, owner=None): ...


class MissingHook(_Base):
    _wrap_socket = None


class HookNotCalled(_Base):
    def wrap_bio(self, incoming, outgoing, server_side=False, server_hostname=None, session=None):
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return plain.wrap_bio(incoming, outgoing, server_hostname="x")


class ObjectElsewhere(_Base):
    class sslobject_class(ssl.SSLObject):
        @classmethod
        def _create(cls, incoming, outgoing, context=None, **options):
            self = super()._create(incoming, outgoing, context=context, **options)
            self._raw, self._sslobj = self._sslobj, object()
            return self


class ReadsPastTheGate(_Base):
    class sslobject_class(ssl.SSLObject):
        def read(self, *_args):
            return b""


class SendsPastTheGate(_Base):
    class sslsocket_class(ssl.SSLSocket):
        def send(self, data, flags=0):
            return super(ssl.SSLSocket, self).send(data, flags)


class ConnectsOtherwise(_Base):
    class sslsocket_class(ssl.SSLSocket):
        _real_connect = None


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (ConnectsOtherwise, "SSLSocket._real_connect is gone"),
        (OtherParameters, "_wrap_bio has other parameters"),
        (MissingHook, "not a callable object"),
        (HookNotCalled, "not made through SSLContext._wrap_bio"),
        (ObjectElsewhere, "does not keep OpenSSL's object in _sslobj"),
        (ReadsPastTheGate, "does not do all its work through _sslobj"),
        (SendsPastTheGate, "does not do all its work through _sslobj"),
        (type("Injected", (ssl.SSLContext,), {"__module__": "truststore._api"}), "replaced by truststore"),
    ],
)
def test_it_fails_closed_where(base, words):
    with pytest.raises(ImportError, match=words):
        check(base)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ssl.SSLObject.write = lambda self, data: len(data)", "_sslobj"),
        ("ssl.SSLSocket.recv = lambda self, *_: b''", "_sslobj"),
        ("ssl.SSLContext = type('SSLContext', (ssl.SSLContext,), {'__module__': 'truststore'})", "truststore"),
        ("import _ssl; del _ssl.ENCODING_DER", "ENCODING_DER"),
    ],
)
def test_the_package_cannot_be_imported_then(change, words):
    root = str(Path(authsec_sdk.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import ssl; {change}; import authsec_sdk.tls"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError: authsec_sdk.tls does not work safely with this Python" in done.stderr
    assert words in done.stderr
