"""Requests of aiohttp.web that are under way, judged again by each new policy: the connections of those refused end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from authsec_sdk.authz import Policy, Request, RequestAuthorizer, authorize_request
from authsec_sdk.errors import SpiffeError
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.spiffe import SpiffeID

__all__ = ["LiveRequests"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    request: web.BaseRequest
    peer: SpiffeID
    asked: Request
    loop: asyncio.AbstractEventLoop


class LiveRequests:
    """What is under way by one policy. Follows it as long as it is open, where it is one that can change."""

    def __init__(self, policy: RequestAuthorizer) -> None:
        self._policy = policy
        self._under_way: set[_UnderWay] = set()
        if isinstance(policy, PolicyFile):
            policy.subscribe(self._changed)

    @contextmanager
    def judged(self, request: web.BaseRequest, peer: SpiffeID, asked: Request) -> Iterator[None]:
        """Judge a request now, and again whenever the policy changes while the block lasts.

        Raises:
            PeerNotAuthorizedError: it is refused now.
        """
        # Known before it is judged: a policy that comes between the two judges it again.
        known = _UnderWay(request, peer, asked, asyncio.get_running_loop())
        self._under_way.add(known)
        try:
            authorize_request(self._policy, peer, asked)
            yield
        finally:
            self._under_way.discard(known)

    def _changed(self, _policy: Policy) -> None:
        for known in self._under_way.copy():
            with contextlib.suppress(RuntimeError):  # its loop is closed, and so is its connection
                known.loop.call_soon_threadsafe(self._judge_again, known)

    def _judge_again(self, known: _UnderWay) -> None:
        if known not in self._under_way:
            return
        try:
            authorize_request(self._policy, known.peer, known.asked)
        except SpiffeError as refusal:
            logger.warning("Connection ended: %s path=%r", refusal, known.request.path)
            if known.request.transport is not None:
                known.request.transport.abort()
