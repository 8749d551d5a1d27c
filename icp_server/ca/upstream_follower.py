"""Follows what the upstream authority publishes: new roots and keys are taken over, and tainted ones left at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import TrustBundle
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.ca.upstream import POLL, UpstreamAuthority
from icp_server.ca.upstream_chain import to_der
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.errors import Internal
from icp_server.domain.upstream_root import certificate_key_id, signed_by, tainted_roots
from icp_server.ports import Store

logger = logging.getLogger(__name__)


class _Control(Protocol):
    """What of `AuthorityControl` is used here."""

    def local_authorities(self, kind: AuthorityKind) -> LocalAuthorities: ...

    async def prepare(self, kind: AuthorityKind) -> AuthorityRecord: ...

    async def activate(self, kind: AuthorityKind, authority_id: str) -> AuthorityRecord: ...

    async def bundle_changed(self) -> None: ...


class UpstreamFollower:
    """`run` until cancelled; whoever starts it awaits its end.

    What upstream no longer publishes stays in our bundle until an operator revokes it or it expires: an answer that
    lacks something is no reason to shut anybody out.
    """

    def __init__(
        self,
        store: Store,
        upstream: UpstreamAuthority,
        control: _Control,
        *,
        every: timedelta = POLL,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._control = control
        self._every = every
        self._sleep = sleep
        self._problem = ""
        self._in_vain: tuple[str, frozenset[str]] | None = None

    async def run(self) -> None:
        """Ask for ever. A failure is logged once, until it is another one."""
        while True:
            try:
                await self.step()
            except SpiffeError as error:
                if self._problem != str(error):
                    logger.error("Could not follow the upstream authority error=%s", error)  # noqa: TRY400
                self._problem = str(error)
            except Exception:
                logger.exception("Could not follow the upstream authority")
            else:
                if self._problem:
                    logger.info("The upstream authority is followed again")
                self._problem = ""
            await self._sleep(self._every.total_seconds())

    async def step(self) -> bool:
        """Take over what is new; whether anything was."""
        upstream = await self._upstream.bundle()
        if upstream is None:
            return False
        own = await self._store.bundles.published(self._store.trust_domain)
        changed = await self._add(upstream, own)
        changed = await self._taint(upstream, own) or changed
        if changed:
            await self._control.bundle_changed()
        await self._leave_tainted()
        return changed

    async def _add(self, upstream: PublishedBundle, own: PublishedBundle | None) -> bool:
        have = own.bundle if own else TrustBundle(self._store.trust_domain)
        known = {to_der(root) for root in have.x509_authorities}
        news = TrustBundle(
            self._store.trust_domain,
            tuple(root for root in upstream.bundle.x509_authorities if to_der(root) not in known),
            {k: v for k, v in upstream.bundle.jwt_authorities.items() if k not in have.jwt_authorities},
            {k: v for k, v in upstream.bundle.wit_authorities.items() if k not in have.wit_authorities},
        )
        if not (news.x509_authorities or news.jwt_authorities or news.wit_authorities):
            return False
        await self._store.bundles.append(PublishedBundle(news, key_expiry=upstream.key_expiry))
        logger.info(
            "Took over authorities from upstream x509=%d jwt=%d wit=%d",
            len(news.x509_authorities),
            len(news.jwt_authorities),
            len(news.wit_authorities),
        )
        return True

    async def _taint(self, upstream: PublishedBundle, own: PublishedBundle | None) -> bool:
        """Mark what upstream has marked. Each mark is one of ours to make, so what is refused does not stop others."""
        have = own.tainted if own else None
        roots = {to_der(root) for root in have.x509_authorities} if have else set()
        marks = [
            (AuthorityKind.X509, certificate_key_id(root))
            for root in upstream.tainted.x509_authorities
            if to_der(root) not in roots
        ]
        jwt, wit = (have.jwt_key_ids, have.wit_key_ids) if have else (frozenset[str](), frozenset[str]())
        marks += [(AuthorityKind.JWT, key_id) for key_id in sorted(upstream.tainted.jwt_key_ids - jwt)]
        marks += [(AuthorityKind.WIT, key_id) for key_id in sorted(upstream.tainted.wit_key_ids - wit)]
        for kind, authority_id in marks:
            try:
                await self._store.authorities.taint(kind, authority_id)
            except Internal as error:  # another server was faster, or it was revoked here
                logger.debug("Not tainted authority_id=%s reason=%s", authority_id, error.message)
            else:
                logger.warning("Upstream tainted an authority kind=%s authority_id=%s", kind.words, authority_id)
        return bool(marks)

    async def _leave_tainted(self) -> None:
        """Have a new X.509 authority signed if a tainted root stands above the active one."""
        published = await self._store.bundles.published(self._store.trust_domain)
        roots = tainted_roots(published)
        authorities = self._control.local_authorities(AuthorityKind.X509)
        if not signed_by(authorities.active, roots):
            return
        prepared = authorities.next if authorities.next and authorities.next.status is Status.PREPARED else None
        if prepared is None or signed_by(prepared, roots):
            if self._in_vain == (authorities.active.authority_id, roots):
                return
            prepared = await self._control.prepare(AuthorityKind.X509)
        if signed_by(prepared, roots):
            # Not asked again before something changes: each time would be one more certificate from the wrong root.
            self._in_vain = (authorities.active.authority_id, roots)
            logger.warning("Upstream still signs with a tainted root authority_id=%s", prepared.authority_id)
            return
        await self._control.activate(AuthorityKind.X509, prepared.authority_id)
        await self._control.bundle_changed()
