"""What the agent has to say, handed on for ever: X.509 contexts, JWT bundles, and JWT-SVIDs before they grow old."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from authsec_sdk.cli.sidecar.contents import pick_jwt
from authsec_sdk.cli.sidecar.settings import JWTFile
from authsec_sdk.errors import SpiffeError, WorkloadAPIError
from authsec_sdk.spiffe import JWTSVID
from authsec_sdk.workloadapi import WorkloadAPIClient

__all__ = ["Complaint", "fetch_again_in", "follow", "keep_jwt"]

_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
_FETCH_TIMEOUT: Final = 30.0

_Value = TypeVar("_Value")


Complaint = Callable[[SpiffeError], bool]
"""Told of every failure; says whether to go on."""


def fetch_again_in(expires_at: datetime, now: datetime) -> float:
    """Return after how many seconds a JWT-SVID is to be replaced: half of what is left, and at least one."""
    return max(1.0, (expires_at - now) / timedelta(seconds=2))


async def follow(
    watch: Callable[[], AsyncGenerator[_Value, None]], take: Callable[[_Value], None], complain: Complaint
) -> None:
    """Hand on every update of a stream. An agent that refuses the call is asked again, if `complain` says so.

    Raises:
        WorkloadAPIError: the agent does not take the call, and `complain` said not to go on.
    """
    while True:
        try:
            async with aclosing(watch()) as updates:
                async for update in updates:
                    take(update)
        except WorkloadAPIError as error:
            if not complain(error):
                raise
        await asyncio.sleep(_LAST_RETRY)


async def keep_jwt(
    client: WorkloadAPIClient, file: JWTFile, hint: str | None, take: Callable[[JWTSVID], None], complain: Complaint
) -> None:
    """Fetch a JWT-SVID, again after half of its life, and after failures ever more slowly up to once a minute.

    Raises:
        SpiffeError: it cannot be had, and `complain` said not to go on.
    """
    retry = _FIRST_RETRY
    while True:
        try:
            svid = pick_jwt(await client.fetch_jwt_svids(file.audience, timeout=_FETCH_TIMEOUT), hint)
        except SpiffeError as error:
            if not complain(error):
                raise
            wait, retry = retry, min(_LAST_RETRY, retry * 2)
        else:
            take(svid)
            wait, retry = fetch_again_in(svid.expires_at, datetime.now(UTC)), _FIRST_RETRY
        await asyncio.sleep(wait)
