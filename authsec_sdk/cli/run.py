"""``authsec run``: identities as files for a program that knows nothing of SPIFFE, which is told at each rotation.

Writes the SVID, its key and its bundle, JWT-SVIDs and JWT bundles where asked; starts CMD when all of them are there;
then keeps them new and signals or restarts it. Signals are passed on to CMD, and its exit code is this command's. What
happens is told on standard error; standard output is CMD's.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from authsec_sdk.cli.output import add_output, printable
from authsec_sdk.cli.parsing import add_command, add_socket, file_mode, seconds
from authsec_sdk.cli.sidecar.helper_conf import read_helper_conf
from authsec_sdk.cli.sidecar.loop import Sidecar, Tell
from authsec_sdk.cli.sidecar.settings import (
    BUNDLE_MAP,
    FileModes,
    HealthSettings,
    JWTFile,
    OnRotation,
    RunSettings,
    parse_signal,
)
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.filesource import SPIFFE_HELPER, FileLayout

_EXAMPLES: Final = (
    ("authsec run --dir /run/svid --signal HUP -- nginx -g 'daemon off;'", "files, and SIGHUP at each rotation"),
    ("authsec run --dir /run/svid --restart -- ./server", "a program that cannot read its files again"),
    ("authsec run --dir /run/svid --pid-file /run/haproxy.pid --signal USR2", "a program that somebody else runs"),
    ("authsec run --dir /run/svid --once --timeout 60", "for an init container"),
    ("authsec run --dir /run/svid --swap --jwt token=vault --jwt-bundle keys.json", "directory swap, JWT-SVID, keys"),
    ("authsec run --config helper.conf", "as spiffe-helper -config helper.conf"),
)
_BESIDE_CONFIG: Final = frozenset(
    {"config", "daemon_mode", "bundle_map", "unsafe_federated_in_pem", "swap", "remove_at_end", "timeout", "output"}
    | {"command", "command_line", "parser", "run"}
)
_ONE_SHOT_TIMEOUT: Final = 60.0


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands,
        "run",
        summary="identities as files for other programs, as spiffe-helper",
        description=__doc__,
        examples=_EXAMPLES,
    )
    add_socket(parser, timeout=None)
    add_output(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="read spiffe-helper's configuration instead")
    parser.add_argument("--daemon-mode", choices=("true", "false"), help="with --config: overrides daemon_mode")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where the files go; it must exist")
    parser.add_argument("--once", action="store_true", help="write the files and end")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help=f"how long the first files may take (default: no end; with --once {_ONE_SHOT_TIMEOUT:g})",
    )
    _add_program(parser)
    _add_files(parser)
    parser.set_defaults(run=run, parser=parser)


def _add_program(parser: argparse.ArgumentParser) -> None:
    program = parser.add_argument_group("the program")
    program.add_argument("command_line", nargs="*", metavar="CMD", help="after --: what to run, with its arguments")
    program.add_argument("--signal", metavar="NAME", help="send it at each rotation, such as HUP")
    program.add_argument("--restart", action="store_true", help="end CMD at each rotation and start it again")
    program.add_argument("--pid-file", type=Path, metavar="FILE", help="signal the process whose number is in it")
    program.add_argument(
        "--grace", type=seconds, default=10.0, metavar="SECONDS", help="from SIGTERM to SIGKILL (default 10)"
    )
    program.add_argument("--health", metavar="HOST:PORT", help="answer probes: /live and /ready over HTTP")


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("the files")
    layout = SPIFFE_HELPER
    for option, name, what in (
        ("--svid-file", layout.certificates, "the certificate and its intermediates"),
        ("--key-file", layout.private_key, "the key; the same name as --svid-file puts both into one"),
        ("--bundle-file", layout.bundle, "the authorities of the SVID's own trust domain"),
    ):
        files.add_argument(option, default=name, metavar="NAME", help=f"{what} (default {name})")
    files.add_argument(
        "--bundle-map", metavar="NAME", help=f"all bundles by trust domain, such as {BUNDLE_MAP} (default: none)"
    )
    files.add_argument("--no-x509", action="store_true", help="write no X.509 files")
    files.add_argument(
        "--jwt", action="append", default=[], metavar="NAME=AUDIENCE[,AUDIENCE]", help="a JWT-SVID; may be repeated"
    )
    files.add_argument("--jwt-bundle", metavar="NAME", help="the keys of JWT-SVIDs, as spiffe-helper writes them")
    files.add_argument("--hint", help="of several identities use the one with this hint (default: the first)")
    default = FileModes()
    for option, mode, what in (
        ("--cert-mode", default.certificates, "of certificates and bundles"),
        ("--key-mode", default.key, "of the key"),
        ("--jwt-mode", default.jwt_svid, "of JWT-SVIDs and JWT bundles"),
    ):
        files.add_argument(option, type=file_mode, default=mode, metavar="MODE", help=f"{what} (default {mode:04o})")
    files.add_argument("--swap", action="store_true", help="replace all files in one step, by swapping a directory")
    files.add_argument("--remove-at-end", action="store_true", help="leave no key behind")
    files.add_argument("--add-intermediates-to-bundle", action="store_true", help="there instead of behind the SVID")
    files.add_argument("--omit-expired", action="store_true", help="leave expired authorities out of the PEM bundle")
    files.add_argument(
        "--unsafe-federated-in-pem",
        action="store_true",
        help="put authorities of other trust domains into the PEM bundle too: each can then vouch for IDs of all",
    )


def run(options: argparse.Namespace) -> int:
    """Run until the command or a signal ends it."""
    tell = _teller(options.output)
    settings = _from_config(options, tell) if options.config is not None else _from_options(options)
    logger = logging.getLogger("authsec_sdk")
    handler = _Told(tell)
    logger.addHandler(handler)
    try:
        return asyncio.run(_run(settings, tell))
    finally:
        logger.removeHandler(handler)


async def _run(settings: RunSettings, tell: Tell) -> int:
    return await Sidecar(settings, tell).run()


def _from_config(options: argparse.Namespace, tell: Tell) -> RunSettings:
    parser: argparse.ArgumentParser = options.parser
    if options.command_line:
        parser.error(f"CMD and --config do not go together: name it in {options.config} (cmd, cmd_args)")
    for name, value in vars(options).items():
        if name not in _BESIDE_CONFIG and value != parser.get_default(name):
            option = name.replace("_", "-")
            parser.error(f"--{option} and --config do not go together: write it into {options.config}")
    conf = read_helper_conf(
        options.config,
        environ=os.environ,
        daemon_mode=None if options.daemon_mode is None else options.daemon_mode == "true",
        bundle_map=options.bundle_map,
        unsafe_federated_in_pem=options.unsafe_federated_in_pem,
        swap=options.swap,
        remove_at_end=options.remove_at_end,
        timeout=options.timeout,
    )
    for warning in conf.warnings:
        tell("without effect", problem=warning)
    return conf.settings


def _from_options(options: argparse.Namespace) -> RunSettings:
    parser: argparse.ArgumentParser = options.parser
    if options.dir is None:
        parser.error("where to? Give --dir, or --config with a file of spiffe-helper's")
    if options.daemon_mode is not None:
        parser.error("--daemon-mode is for --config; there is --once")
    if options.restart and (options.signal or not options.command_line):
        parser.error("--restart is for a CMD of ours, and goes without --signal")
    if options.signal and not options.command_line and options.pid_file is None:
        parser.error("--signal to whom? Give a CMD after --, or --pid-file")
    try:
        return RunSettings(
            folder=options.dir,
            socket=options.socket,
            command=tuple(options.command_line),
            on_rotation=OnRotation.RESTART if options.restart else OnRotation.SIGNAL,
            renew_signal=parse_signal(options.signal) if options.signal else None,
            pid_file=options.pid_file,
            once=options.once,
            timeout=options.timeout or (_ONE_SHOT_TIMEOUT if options.once else None),
            grace=options.grace,
            layout=None if options.no_x509 else FileLayout(options.svid_file, options.key_file, options.bundle_file),
            bundle_map=options.bundle_map,
            unsafe_federated_in_pem=options.unsafe_federated_in_pem,
            add_intermediates_to_bundle=options.add_intermediates_to_bundle,
            omit_expired=options.omit_expired,
            hint=options.hint,
            jwt_svids=tuple(_jwt_file(text) for text in options.jwt),
            jwt_bundle=options.jwt_bundle,
            modes=FileModes(options.cert_mode, options.key_mode, options.jwt_mode, options.jwt_mode),
            swap=options.swap,
            remove_at_end=options.remove_at_end,
            health=None if options.health is None else _health(options.health),
        )
    except ConfigurationError as error:
        parser.error(str(error))


def _jwt_file(text: str) -> JWTFile:
    name, separator, audience = text.partition("=")
    if not separator:
        raise ConfigurationError(f"--jwt {text!r}: write NAME=AUDIENCE")
    return JWTFile(tuple(audience.split(",")), name)


def _health(text: str) -> HealthSettings:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"--health {text!r}: write HOST:PORT, such as 127.0.0.1:8081")
    return HealthSettings(host.strip("[]"), int(port))


def _teller(output: str) -> Tell:
    def tell(event: str, /, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if output == "json":
            line = json.dumps({"time": now, "event": event, **facts})
        else:
            line = "  ".join([f"{now} authsec: {event}", *(f"{key}={_text(value)}" for key, value in facts.items())])
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    return tell


def _text(value: object) -> str:
    return ",".join(map(printable, value)) if isinstance(value, list) else printable(value)


class _Told(logging.Handler):
    """What the SDK logs, among the rest."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("log", level=record.levelname.lower(), message=record.getMessage())
