"""Join tokens in SQL: waiting ones and spent ones, both by digest, so that a copy of the database joins nobody."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.reserved_ids import join_token_agent_id
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument
from icp_server.domain.join_token import UNKNOWN, digest
from icp_server.store.entries import change_entries, insert_entry
from icp_server.store.scope import Scope
from icp_server.store.tables import agents, join_tokens, spent_join_tokens


class _Outcome(Enum):
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    EXPIRED = "expired"


class SQLJoinTokenStore:
    """Implements the `JoinTokenStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def create(self, token: JoinToken, alias: RegistrationEntry | None) -> None:
        """Keep a token, and the alias entry of its agent."""
        hashed = digest(token.value)
        agent_id = join_token_agent_id(self._scope.trust_domain, token.value)

        async def work(connection: AsyncConnection) -> tuple[None, list[str]]:
            for used in (
                self._scope.select(spent_join_tokens, spent_join_tokens.c.id).where(
                    spent_join_tokens.c.digest == hashed
                ),
                self._scope.select(agents, agents.c.id).where(agents.c.spiffe_id == str(agent_id)),
            ):
                if (await connection.execute(used)).first() is not None:
                    raise AlreadyExists("failed to create token: its agent exists or has existed; choose another text")
            waiting = self._scope.select(join_tokens, join_tokens.c.id).where(join_tokens.c.digest == hashed)
            if (await connection.execute(waiting)).first() is not None:
                raise Internal("failed to create token: a token with this text is waiting already")
            values = {"digest": hashed, "expires_at": token.expires_at}
            await connection.execute(self._scope.insert(join_tokens, values))
            if alias is None:
                return None, []
            made = await insert_entry(self._scope, connection, alias)
            if made.error is None:
                return None, [alias.id]
            if isinstance(made.error, AlreadyExists):  # left over from an earlier token of this text that expired
                return None, []
            raise made.error

        await change_entries(self._scope, work)

    async def consume(self, text: str, key_digest: bytes, now: datetime) -> None:
        """Spend the token for one key."""
        hashed, moment = digest(text), now.timestamp()

        async def work(connection: AsyncConnection) -> _Outcome:
            # The deletion decides: of any number of callers, one finds the row.
            taken = self._scope.delete(join_tokens).where(join_tokens.c.digest == hashed)
            expires_at = (await connection.execute(taken.returning(join_tokens.c.expires_at))).scalar()
            if expires_at is None:
                return await self._retried(connection, hashed, key_digest, moment)
            if expires_at <= moment:
                return _Outcome.EXPIRED
            values = {"digest": hashed, "key_digest": key_digest, "expires_at": expires_at}
            await connection.execute(self._scope.insert(spent_join_tokens, values))
            return _Outcome.ACCEPTED

        outcome = await self._scope.write(work)
        if outcome is _Outcome.EXPIRED:
            raise InvalidArgument("join token expired")
        if outcome is _Outcome.UNKNOWN:
            raise InvalidArgument(UNKNOWN)

    async def prune(self, now: datetime) -> int:
        """Delete the tokens that expired unused; how many."""

        async def work(connection: AsyncConnection) -> int:
            expired = self._scope.delete(join_tokens).where(join_tokens.c.expires_at <= int(now.timestamp()))
            return (await connection.execute(expired)).rowcount

        return await self._scope.write(work)

    async def _retried(self, connection: AsyncConnection, hashed: bytes, key_digest: bytes, moment: float) -> _Outcome:
        query = self._scope.select(spent_join_tokens, spent_join_tokens.c.id).where(
            spent_join_tokens.c.digest == hashed,
            spent_join_tokens.c.key_digest == key_digest,
            spent_join_tokens.c.expires_at > moment,
        )
        return _Outcome.UNKNOWN if (await connection.execute(query)).first() is None else _Outcome.ACCEPTED
