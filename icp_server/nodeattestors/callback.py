"""Calls a node back at the address it names, for http_challenge: the one place where a stranger says whom we call.

What bounds it: the name is resolved once, and the connection goes to an address that was judged, not to the name. One
forbidden address among those of a name refuses them all. No redirect is followed, little is read, and there is one time
limit for everything.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from icp_common.http_exchange import Answer, HTTPExchangeError, Request, exchange

logger = logging.getLogger(__name__)

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SECONDS: Final = 10.0
MAXIMUM_BYTES: Final = 1024
_EMBEDDING: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""NAT64 and the old form of IPv4 in IPv6: the last four bytes are the address that is meant."""

_LOOKUPS: Final = ThreadPoolExecutor(4, "callback-lookup")
"""A stranger's name server can keep a lookup waiting for long, which must not use up the threads that sign."""


class CallbackError(Exception):
    """The node cannot be called, or does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where calls may go: nowhere on this machine or link, nowhere `denied`; what is `allowed` wins over both."""

    denied: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()

    def permits(self, address: Address) -> bool:
        """Whether this address may be called, also as what it stands for in another family."""
        return all(self._permits(each) for each in {address, meant(address)})

    def _permits(self, address: Address) -> bool:
        if _within(address, self.allowed):
            return True
        own = address.is_loopback or address.is_link_local or address.is_unspecified
        if own or address.is_multicast or (address.is_reserved and not _embeds(address)):
            return False
        return not _within(address, self.denied)


def meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if _embeds(address) and int(address) > 1:  # :: and ::1 are themselves
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def fetch(
    host: str, port: int, path: str, reach: Reach, *, resolve: Callable[..., Iterable[Any]] = socket.getaddrinfo
) -> bytes:
    """GET `http://host:port/path` at an address that is permitted; the body of a 200 answer.

    Raises:
        CallbackError: the name has no address or a forbidden one, nobody answers in time, or the answer is no 200.
    """
    try:
        async with asyncio.timeout(SECONDS):
            addresses = await _resolved(host, port, reach, resolve)
            answer = await _ask(addresses, port, Request("GET", f"{host}:{port}", path))
    except TimeoutError as error:
        raise CallbackError(f"no answer within {SECONDS:g} s") from error
    except (OSError, HTTPExchangeError, ValueError) as error:
        # For the operator alone: whoever names a host is not told where it leads in our network and what answers there.
        logger.warning("A node cannot be called host=%s port=%d error=%s", host, port, str(error)[:200])
        raise CallbackError("the node cannot be called") from error
    if answer.status != 200:
        raise CallbackError(f"the node answers with HTTP {answer.status}")
    return answer.body


async def _ask(addresses: Iterable[Address], port: int, request: Request) -> Answer:
    failure: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            reader, writer = await asyncio.open_connection(str(address), port)
        except OSError as error:
            failure = error
        else:
            return await exchange(reader, writer, request, limit=MAXIMUM_BYTES)
    raise failure


async def _resolved(host: str, port: int, reach: Reach, resolve: Callable[..., Iterable[Any]]) -> list[Address]:
    look_up = functools.partial(resolve, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, look_up)
    addresses = list(dict.fromkeys(ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found))
    if not all(reach.permits(address) for address in addresses):
        raise CallbackError(f"{host!r} leads to an address that this server does not call")
    return addresses


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _embeds(address: Address) -> bool:
    return _within(address, _EMBEDDING)
