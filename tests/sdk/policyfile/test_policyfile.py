"""A policy file that changes under its servers: the newest good one counts, and whoever looks can see which that is."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.authz import Decision, Policy, Request, authorize, authorize_request, require_authorizer
from authsec_sdk.errors import (
    ConfigurationError,
    InvalidTrustDomainError,
    PeerNotAuthorizedError,
    SourceClosedError,
    UnavailableError,
)
from authsec_sdk.policyfile import InvalidPolicyError, PolicyFile, load_policy
from authsec_sdk.policyfile.policyfile import _Document, _PolicyFeed
from authsec_sdk.spiffe import SpiffeID, TrustDomain

pytestmark = pytest.mark.anyio

WEB, BATCH = SpiffeID.parse("spiffe://example.org/web"), SpiffeID.parse("spiffe://example.org/batch")
GET = Request.http("GET", "/orders")
HEAD = "version: 1\nrules:\n"
ALLOW_WEB = HEAD + "  - {name: web, allow: spiffe://example.org/web, http: {paths: /orders}}\n"
ALLOW_BOTH = ALLOW_WEB + "  - {name: batch, allow: spiffe://example.org/batch, http: {paths: /orders}}\n"
DENY_WEB = ALLOW_BOTH + "  - {name: no-web, deny: spiffe://example.org/web, everything: true}\n"


def put(path: Path, text: str) -> None:
    """Replace a file as one should: by renaming."""
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.rename(path)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def accepts(policy: PolicyFile, peer: SpiffeID) -> bool:
    try:
        authorize_request(policy, peer, GET)
    except PeerNotAuthorizedError:
        return False
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put(tmp_path / "policy.yaml", ALLOW_WEB)
    return tmp_path / "policy.yaml"


# --- the first one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "version: 1\n", ALLOW_WEB + "x: 1\n", ALLOW_WEB.replace("web,", "web,,", 1), "\0"]
)
def test_with_a_wrong_first_document_nothing_starts(text: str, path: Path) -> None:
    put(path, text)
    with pytest.raises(InvalidPolicyError, match=r"policy\.yaml:\d+:\d+: "):
        PolicyFile(path)


def test_with_no_first_document_nothing_starts(path: Path) -> None:
    path.unlink()
    with pytest.raises(UnavailableError):
        PolicyFile(path)
    with pytest.raises(ConfigurationError, match="ends with"):
        PolicyFile(path.with_suffix(".txt"))


@pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan")])
def test_wrong_arguments(interval: float, path: Path) -> None:
    with pytest.raises(ConfigurationError, match="interval"):
        PolicyFile(path, interval=interval)
    with pytest.raises(ConfigurationError, match="names none"):
        PolicyFile(path, trust_domains=[])
    with pytest.raises(ConfigurationError, match="give a list"):
        PolicyFile(path, trust_domains="example.org")
    with pytest.raises(InvalidTrustDomainError):
        PolicyFile(path, trust_domains=["Example.org"])


def test_a_policy_counts_at_once_and_nothing_after_the_end(path: Path) -> None:
    threads = threading.active_count()
    policy = PolicyFile(path)
    assert threading.active_count() == threads
    with policy:
        assert accepts(policy, WEB)
        assert not accepts(policy, BATCH)
        assert policy.policy == load_policy(path)
        status = policy.status
        assert (status.current, status.kept_since, status.rules, status.updates) == (True, None, 1, 1)
        assert (status.rejected, status.last_error, status.report_only) == (0, None, False)
        assert repr(policy) == f"<PolicyFile {path} rules=1 current=True>"
    assert not accepts(policy, WEB)
    assert not policy.status.current
    with pytest.raises(SourceClosedError):
        policy.authorize(WEB, GET)
    until(lambda: threading.active_count() == threads)


# --- changes ---------------------------------------------------------------------------------------------------------


def test_each_request_is_judged_by_the_newest_policy(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with PolicyFile(path, interval=0.01) as policy:
        generations = [policy.generation]
        for text, expected in [
            (ALLOW_BOTH, (True, True)),
            (DENY_WEB, (False, True)),
            (HEAD + "  []\n", (False, False)),
        ]:
            put(path, text)
            until(lambda: policy.generation != generations[-1])
            generations.append(policy.generation)
            assert (accepts(policy, WEB), accepts(policy, BATCH)) == expected
        assert generations == sorted(set(generations))
        assert policy.status.updates == 4
    assert f"a new policy counts rules=3 path={path}" in caplog.messages


def test_the_last_good_policy_is_kept_and_that_is_an_alarm(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with PolicyFile(path, interval=0.01) as policy:
        spoilers: list[Callable[[], object]] = [
            lambda: put(path, DENY_WEB + "x"),
            lambda: put(path, ""),
            path.unlink,
            path.mkdir,
        ]
        for number, spoil in enumerate(spoilers, start=1):
            spoil()
            until(lambda seen=number: policy.status.rejected >= seen)  # type: ignore[misc]
            status = policy.status
            assert (status.current, status.updates, policy.generation) == (False, 1, 1)
            assert status.kept_since is not None
            assert status.last_error is not None
            assert accepts(policy, WEB)
        [first] = {record.levelno for record in caplog.records if "the last good one is kept" in record.message}
        assert first == logging.ERROR
        assert any("policy.yaml:7:1: " in message for message in caplog.messages)
        path.rmdir()
        put(path, ALLOW_WEB)
        until(lambda: policy.status.current)
        assert (policy.status.kept_since, policy.generation) == (None, 1)
        assert policy.status.last_error is not None
        assert f"the policy is good again path={path}" in caplog.messages


def test_an_alarm_that_goes_on_does_not_fill_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with PolicyFile(path, interval=0.001) as policy:
        put(path, "")
        until(lambda: policy._feed.progress.failures > 100)
    lines = [message for message in caplog.messages if "the last good one is kept" in message]
    assert [line.rpartition(" ")[2] for line in lines] == ["times=1", "times=10", "times=100"]


def test_what_is_being_written_does_not_count_yet(path: Path) -> None:
    """A policy that is cut off before its last rule is well formed, and would allow what the rest of it denies."""
    put(path, DENY_WEB)
    feed = _PolicyFeed(_Document(path, None), 1.0)  # looked at by hand, and not by its thread
    feed.load_first()
    assert feed._look() == 1.0
    with path.open("w") as file:
        for line in DENY_WEB.replace("name: web", "name: other").splitlines(keepends=True):
            file.write(line)
            file.flush()
            assert feed._look() == 0.1
            assert feed.generation == 1
    assert feed._look() == 1.0
    assert feed.generation == 2
    assert feed.value is not None
    assert len(feed.value.rules) == 3


def test_swapping_links_is_seen(tmp_path: Path) -> None:
    """As kubelet does for what is mounted from a ConfigMap."""
    for name, text in (("one", ALLOW_WEB), ("two", ALLOW_BOTH)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    with PolicyFile(tmp_path / "policy.yaml", interval=0.01) as policy:
        assert not accepts(policy, BATCH)
        (tmp_path / "beside").symlink_to("two")
        (tmp_path / "beside").rename(tmp_path / "..data")
        until(lambda: accepts(policy, BATCH))


def test_subscribers_hear_of_each_policy_until_they_leave(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    def fail(_policy: Policy) -> None:
        raise ValueError("broken")

    with PolicyFile(path, interval=0.01) as policy:
        policy.subscribe(fail)
        end = policy.subscribe(lambda new: heard.append(len(new.rules)))
        put(path, ALLOW_BOTH)
        until(lambda: heard == [2])
        end()
        put(path, DENY_WEB)
        until(lambda: policy.generation == 3)
        assert accepts(policy, BATCH)
    assert heard == [2]
    assert "a listener to a policy failed" in caplog.text


async def test_tasks_follow_changes(path: Path) -> None:
    seen = []
    with anyio.fail_after(30):
        async with PolicyFile(path, interval=0.01) as policy:
            async for each in policy.updates():
                seen.append(len(each.rules))
                if len(seen) == 2:
                    break
                put(path, ALLOW_BOTH)
    assert seen == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_by_itself(path: Path) -> None:
    with PolicyFile(path, interval=0.01) as policy:
        child = os.fork()
        if not child:
            code = 1
            try:
                assert accepts(policy, WEB)
                put(path, ALLOW_BOTH)
                until(lambda: accepts(policy, BATCH))
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- who may connect, and trust domains ------------------------------------------------------------------------------


def test_who_may_connect_follows(path: Path) -> None:
    with PolicyFile(path, interval=0.01, trust_domains=["example.org", TrustDomain("example.com")]) as policy:
        authorizer = require_authorizer(policy.authorizer)
        assert authorizer.trust_domains() == frozenset({TrustDomain("example.org"), TrustDomain("example.com")})
        authorize(authorizer, WEB)
        with pytest.raises(PeerNotAuthorizedError):
            authorize(authorizer, BATCH)
        put(path, DENY_WEB)
        until(lambda: policy.generation == 2)
        authorize(authorizer, BATCH)
        with pytest.raises(PeerNotAuthorizedError, match="no-web"):
            authorize(authorizer, WEB)
    assert PolicyFile(path).authorizer.trust_domains() is None


def test_a_document_cannot_name_more_trust_domains_than_the_program(path: Path) -> None:
    put(path, ALLOW_WEB + "  - {name: evil, allow: evil.test, everything: true}\n")
    with pytest.raises(InvalidPolicyError, match="is outside of the trust domains"):
        PolicyFile(path, trust_domains=["example.org"])
    put(path, ALLOW_WEB)
    with PolicyFile(path, trust_domains=["example.org"], interval=0.01) as policy:
        put(path, ALLOW_WEB + "  - {name: evil, allow: evil.test, everything: true}\n")
        until(lambda: policy.status.rejected == 1)
        assert not accepts(policy, SpiffeID.parse("spiffe://evil.test/x"))


# --- what is counted and told ----------------------------------------------------------------------------------------


def test_decisions_are_counted_by_rule_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, DENY_WEB)
    told: list[Decision] = []

    def hook(decision: Decision) -> None:
        told.append(decision)
        raise ValueError("broken")

    with PolicyFile(path, on_decision=hook) as policy:
        assert [accepts(policy, peer) for peer in (BATCH, BATCH, WEB)] == [True, True, False]
        assert not accepts(policy, SpiffeID.parse("spiffe://example.org/other"))
        assert policy.counts == {("batch", "allowed"): 2, ("no-web", "refused"): 1, ("", "refused"): 1}
        with pytest.raises(PeerNotAuthorizedError):
            policy.authorizer(WEB)
        assert policy.counts["", "refused"] == 2
    assert [(each.peer, each.allowed) for each in told[:3]] == [(BATCH, True), (BATCH, True), (WEB, False)]
    assert "the decision stands" in caplog.text


def test_report_only_is_a_switch_in_code_and_refuses_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, DENY_WEB)
    with PolicyFile(path, unsafe_report_only=True) as policy:
        assert policy.status.report_only
        for peer in (WEB, BATCH, SpiffeID.parse("spiffe://example.org/other")):
            assert accepts(policy, peer)
            authorize(policy.authorizer, peer)
        counts: dict[Any, int] = dict(policy.counts)
    assert counts == {("no-web", "reported"): 1, ("batch", "allowed"): 1, ("", "reported"): 3}
    assert "nobody is refused by it" in caplog.messages[0]
    assert sum("would be refused, and is only reported" in message for message in caplog.messages) == 4


@pytest.mark.parametrize("key", ["report_only", "unsafe_report_only", "mode", "enforce", "default"])
def test_no_document_weakens_itself(key: str, path: Path) -> None:
    put(path, ALLOW_WEB + f"{key}: true\n")
    with pytest.raises(InvalidPolicyError, match="there is no such key"):
        PolicyFile(path)
