"""What every test shares: which skips are allowed, and an environment without the machine's own settings."""

import fnmatch
import os
import signal
from pathlib import Path

import hypothesis
import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed-skips")

# A developer's own agent or server must never be what a test talks to.
for _name in ("SPIFFE_ENDPOINT_SOCKET", "SPIRE_AGENT_SOCKET_TEMPLATE", "SPIRE_SERVER_SOCKET_TEMPLATE", "NOTIFY_SOCKET"):
    os.environ.pop(_name, None)

# What is ignored stays ignored in every program a test starts: Ctrl-C in a background job, hanging up under nohup.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is no defect: nothing fails because examples took long to make or to try.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[*hypothesis.settings.default.suppress_health_check, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

# `make fuzz`: every property test with as many examples as there is time for, and no other test.
FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With FUZZ_EXAMPLES keep the property tests alone, each with that many examples whatever it says itself."""
    if not FUZZ:
        return
    kept = [item for item in items if getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in kept:
        test = getattr(item.obj, "__func__", item.obj)  # type: ignore[attr-defined]  # `kept` have one
        own = getattr(test, "_hypothesis_internal_use_settings", None) or hypothesis.settings.default
        test._hypothesis_internal_use_settings = hypothesis.settings(
            own,
            max_examples=FUZZ,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            database=None,
        )


def allowed_skips() -> list[tuple[str, str]]:
    """Return (pattern of the test's id, pattern of the skip's reason) for each line of tests/allowed-skips."""
    pairs = []
    for number, line in enumerate(ALLOWED_SKIPS.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            raise pytest.UsageError(f"{ALLOWED_SKIPS}:{number}: want 'test | reason of the skip | why it is allowed'")
        pairs.append((parts[0], parts[1]))
    return pairs


def unexpected(node: str, reason: str, allowed: list[tuple[str, str]]) -> bool:
    """Tell whether a skip is one that tests/allowed-skips does not name."""
    return not any(fnmatch.fnmatch(node, test) and fnmatch.fnmatch(reason, why) for test, why in allowed)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):  # workers have no reporter; the controller judges
        return
    allowed = allowed_skips()
    for report in reporter.stats.get("skipped", []):
        if hasattr(report, "wasxfail"):
            continue
        if unexpected(report.nodeid, reason := _reason(report), allowed):
            reporter.write_line(f"SKIP NOT ALLOWED {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
