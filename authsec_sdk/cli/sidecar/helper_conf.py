"""spiffe-helper's configuration file, every setting of its documentation: honoured, or refused by its name."""

import csv
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsec_sdk.cli.sidecar.settings import FileModes, HealthSettings, JWTFile, OnRotation, RunSettings, parse_signal
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.filesource import FileLayout
from authsec_sdk.hcl import Body, Fields, load
from authsec_sdk.workloadapi import SOCKET_ENV

__all__ = ["DEFAULT_AGENT", "HelperConf", "read_helper_conf", "split_arguments"]

DEFAULT_AGENT: Final = "/tmp/spire-agent/public/api.sock"  # noqa: S108 - spiffe-helper's; who owns it is checked
_DEFAULT_PORT: Final = 8081
_MAX_MODE: Final = 0o777
_ONE_SHOT_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class HelperConf:
    """What the file says, and what of it has no effect and deserves a word."""

    settings: RunSettings
    warnings: tuple[str, ...]


def read_helper_conf(
    path: Path,
    *,
    environ: Mapping[str, str],
    daemon_mode: bool | None = None,
    bundle_map: str | None = None,
    unsafe_federated_in_pem: bool = False,
    swap: bool = False,
    remove_at_end: bool = False,
    timeout: float | None = None,
) -> HelperConf:
    """Read `helper.conf`. What the file has no word for is given beside it; `daemon_mode` overrides the file.

    Paths in it stay relative to the working directory, as they are for spiffe-helper.

    Raises:
        ConfigurationError: with the line of what is unknown, wrong, or refused because it would open a door.
    """
    body = load(path)
    warnings: list[str] = []
    with Fields(body, "the configuration") as conf:
        daemon = conf.boolean("daemon_mode")
        daemon = daemon_mode if daemon_mode is not None else daemon is not False
        command, pid_file, renew = _program(conf)
        if not daemon:
            if pid_file is not None:
                raise conf.error("pid_file_name has no meaning without daemon_mode", "pid_file_name")
            if command:
                warnings.append("cmd is not run: daemon_mode is false")
            if renew is not None:
                warnings.append("renew_signal is not sent: daemon_mode is false")
            command, renew = (), None
        federated = conf.boolean("include_federated_domains") or False
        if federated and not unsafe_federated_in_pem and bundle_map is None:
            raise conf.error(
                "include_federated_domains would put the authorities of other trust domains into the one PEM bundle,"
                " where they can vouch for IDs of yours: run with --bundle-map trust_bundles.json, which keeps domains"
                " apart, or, if the program cannot read that, with --unsafe-federated-in-pem",
                "include_federated_domains",
            )
        layout = _layout(conf)
        if pid_file is not None and renew is None:
            raise conf.error("pid_file_name needs renew_signal", "pid_file_name")
        agent, agent_uid = _agent(conf, environ)
        settings = _build(
            conf,
            folder=Path(conf.text("cert_dir") or "."),
            socket=agent,
            agent_uid=agent_uid,
            command=command,
            follow_command=False,
            on_rotation=OnRotation.SIGNAL,
            renew_signal=renew,
            pid_file=pid_file,
            once=not daemon,
            timeout=timeout or (None if daemon else _ONE_SHOT_TIMEOUT),
            layout=layout,
            bundle_map=bundle_map,
            unsafe_federated_in_pem=federated and unsafe_federated_in_pem,
            add_intermediates_to_bundle=conf.boolean("add_intermediates_to_bundle") or False,
            omit_expired=conf.boolean("omit_expired") or False,
            hint=conf.text("hint") or None,
            jwt_svids=tuple(_jwt_svid(item) for item in conf.bodies("jwt_svids")),
            jwt_bundle=conf.text("jwt_bundle_file_name") or None,
            modes=_modes(conf),
            swap=swap,
            remove_at_end=remove_at_end,
            health=_health(conf),
        )
    return HelperConf(settings, tuple(warnings))


def split_arguments(text: str) -> tuple[str, ...]:
    """Split as spiffe-helper does: at single spaces; double quotes hold together, and stand for themselves doubled.

    Two spaces have an empty argument between them. No shell reads any of it.

    Raises:
        ValueError: a quote is not closed, or stands inside an argument that does not begin with one.
    """
    if not text:
        return ()
    if re.search(r'(?:^|[ ])[^" ][^ ]*"', _without_quoted(text)):
        raise ValueError("a double quote stands inside an argument that does not begin with one")
    try:
        [row] = csv.reader([text], delimiter=" ", strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"the double quotes do not match: {error}") from None
    return tuple(row)


def _without_quoted(text: str) -> str:
    return re.sub(r'(^| )"(?:[^"]|"")*"(?= |$)', r"\1", text)


def _build(conf: Fields, **settings: object) -> RunSettings:
    try:
        return RunSettings(**settings)  # type: ignore[arg-type]
    except ConfigurationError as error:
        raise conf.error(str(error)) from None


def _program(conf: Fields) -> tuple[tuple[str, ...], Path | None, signal.Signals | None]:
    command = conf.text("cmd") or ""
    arguments = conf.text("cmd_args") or ""
    pid_file = conf.text("pid_file_name") or ""
    renew = conf.text("renew_signal") or ""
    try:
        argv = (command, *split_arguments(arguments)) if command else ()
    except ValueError as error:
        raise conf.error(f"cmd_args: {error}", "cmd_args") from None
    try:
        number = parse_signal(renew) if renew else None
    except ConfigurationError as error:
        raise conf.error(str(error), "renew_signal") from None
    return argv, Path(pid_file) if pid_file else None, number


def _layout(conf: Fields) -> FileLayout | None:
    keys = ("svid_file_name", "svid_key_file_name", "svid_bundle_file_name")
    svid, key, bundle = (conf.text(name) or "" for name in keys)
    if not svid and not key and not bundle:
        return None
    if not (svid and key and bundle):
        raise conf.error(f"all or none of {', '.join(keys)} must be there")
    try:
        return FileLayout(svid, key, bundle)
    except ConfigurationError as error:
        raise conf.error(str(error), "svid_file_name") from None


def _agent(conf: Fields, environ: Mapping[str, str]) -> tuple[str, int | None]:
    """Return the address, and for spiffe-helper's default, a place where anybody may listen, who must be listening."""
    address = conf.text("agent_address") or environ.get(SOCKET_ENV, "")
    if address:
        return address, None
    try:
        owner = Path(DEFAULT_AGENT).stat().st_uid
    except OSError:
        return DEFAULT_AGENT, 0
    if owner not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{DEFAULT_AGENT}, where spiffe-helper looks by default, belongs to user {owner}, neither root nor this"
            " one: if that is the agent's, name it with agent_address"
        )
    return DEFAULT_AGENT, owner


def _jwt_svid(body: Body) -> JWTFile:
    with Fields(body, "jwt_svids") as item:
        audience, name = item.text("jwt_audience") or "", item.text("jwt_svid_file_name") or ""
        extra = item.texts("jwt_extra_audiences") or ()
        for key, value in (("jwt_audience", audience), ("jwt_svid_file_name", name)):
            if not value:
                raise item.error(f"{key} is missing in jwt_svids", key)
        return JWTFile((audience, *extra), name)


def _modes(conf: Fields) -> FileModes:
    default = FileModes()
    return FileModes(
        conf.integer("cert_file_mode", minimum=0, maximum=_MAX_MODE) or default.certificates,
        conf.integer("key_file_mode", minimum=0, maximum=_MAX_MODE) or default.key,
        conf.integer("jwt_bundle_file_mode", minimum=0, maximum=_MAX_MODE) or default.jwt_bundle,
        conf.integer("jwt_svid_file_mode", minimum=0, maximum=_MAX_MODE) or default.jwt_svid,
    )


def _health(conf: Fields) -> HealthSettings | None:
    block = conf.block("health_checks")
    if block is None:
        return None
    with block:
        enabled = block.boolean("listener_enabled") or False
        port = block.integer("bind_port", minimum=0, maximum=65535) or _DEFAULT_PORT
        live, ready = block.text("liveness_path") or "/live", block.text("readiness_path") or "/ready"
        if live == ready:
            raise block.error("liveness_path and readiness_path must differ", "readiness_path")
    return HealthSettings("", port, live, ready) if enabled else None
