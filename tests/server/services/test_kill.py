"""Kill -9 in the middle of writes: what was answered is there, what is there is whole, no token counts twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import TrustDomain
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.results import PageRequest
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).with_name("killed_server.py")
ROUNDS = 3


def run_and_kill(database: Path, keys: Path, tokens: str, seed: str, seconds: float) -> list[list[str]]:
    """Let a server work for a while, kill it, and give its promises."""
    command = [sys.executable, str(PROGRAM), str(database), str(keys), tokens, seed]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(PROGRAM.parents[3])}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = []
        while (line := process.stdout.readline()) not in ("", "working\n"):
            lines.append(line)
        assert line, process.stderr.read()
        time.sleep(seconds)
        assert process.poll() is None, process.stderr.read()
    finally:
        process.kill()
        rest, _ = process.communicate(timeout=30)
    # The last line may be cut: what it would have said was not promised.
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return [line.split() for line in lines]


async def test_nothing_is_lost_doubled_or_joined_twice(tmp_path: Path, clock: Any) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    database, keys = tmp_path / "server.sqlite3", folder / "keys.json"
    promises = run_and_kill(database, keys, "new", "s", 0.0)
    tokens = [words[1] for words in promises if words[0] == "token"]
    assert len(tokens) == 40

    for number in range(ROUNDS):
        # A few tokens each round are shown again: those who joined, and those who were killed on the way.
        shown = tokens[: 10 * (number + 1)]
        promises += run_and_kill(database, keys, ",".join(shown), f"r{number}", 0.15 + 0.2 * number)

    kept: Counter[str] = Counter()
    for words in promises:
        if words[0] == "entries":
            kept[words[1]] = 5
        elif words[0] == "deleted":
            kept[words[1]] = 0
    joined = [words[1:] for words in promises if words[0] == "joined"]
    assert kept
    assert joined
    assert len({token for token, _ in joined}) == len(joined), "a token joined two keys"

    async with await Database.open(database) as opened:
        store = await SQLStore.bind(opened, TrustDomain("example.org"), clock)
        found = (await store.entries.list(EntryFilter(), PageRequest())).items
        assert len({entry.id for entry in found}) == len(found)
        assert all(len(entry.selectors) == 2 for entry in found)
        batches = Counter(entry.id.rpartition("-")[0] for entry in found)
        assert set(batches.values()) == {5}, "a batch was written in part"
        last = {batch.split("-")[0]: 0 for batch in kept}
        for batch in kept:
            seed, _, place = batch.partition("-")
            last[seed] = max(last[seed], int(place))
        for batch, size in kept.items():
            seed, _, place = batch.partition("-")
            # Of the batch promised last, the deletion that followed may be committed and not promised any more.
            assert batches[batch] == size or (int(place) == last[seed] and batches[batch] == 0), batch
        delta = await store.entries.changes_since(None)
        assert {entry.id for entry in delta.changed} == {entry.id for entry in found}

        agents = {
            agent.id.segments[-1]: agent for agent in (await store.agents.list(AgentFilter(), PageRequest())).items
        }
        for token, serial_number in joined:
            assert agents[token].serial_number == serial_number

        bundle = await store.bundles.get(store.trust_domain)
        assert bundle is not None
        published = {
            root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
            for root in bundle.x509_authorities
        }
        assert {words[1] for words in promises if words[0] == "active"} <= published
        signer = SVIDSigner(store.trust_domain, Lifetimes(), clock)
        tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
        kinds = slot_kinds(store, signer, tokens, CASettings())
        rotator = AuthorityRotator(
            store,
            DiskKeyManager(keys),
            kinds,
            clock,
        )
        await rotator.start()
        assert {record.authority_id for record in rotator.journal(AuthorityKind.X509).records} <= published
        after = await store.bundles.get(store.trust_domain)
        assert after is not None
        jwt_keys = {record.authority_id for record in rotator.journal(AuthorityKind.JWT).records}
        assert jwt_keys
        assert jwt_keys <= set(after.jwt_authorities)
        assert [item.name for item in folder.iterdir()] == ["keys.json"]
