"""What must happen in the demo, what has, and what must not: pure, fed with events."""

from dataclasses import dataclass, field
from typing import Any

ROTATIONS_WANTED = 2
CALLS_WANTED = 200
_LINE_EACH = 100

Event = dict[str, Any]


@dataclass(slots=True)
class Story:
    """The demo so far. Certificates are counted as the *other* side of a connection saw them."""

    frontend: str
    payments: str
    calls: int = 0
    failures: int = 0
    refusals: int = 0
    without_identity: int = 0
    intruder_turned_away: bool = False
    certificates: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def tell(self, event: Event) -> str | None:
        """Take one event in; return the line a person reads about it, or None."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is None:
            self.wrong.append(f"a workload told an event nobody knows: {event['event']}")
            return None
        line: str | None = handler(event)
        return line

    def rotations(self, spiffe_id: str) -> int:
        """Return how often a workload's certificate was seen to change by its peer."""
        return max(0, len(self.certificates.get(spiffe_id, ())) - 1)

    def missing(self) -> list[str]:
        """Return what has not happened yet, in words."""
        return [words for done, words in self._wanted() if not done]

    def _wanted(self) -> list[tuple[bool, str]]:
        return [
            (self.calls >= CALLS_WANTED, f"{CALLS_WANTED} calls ({self.calls} so far)"),
            *(
                (
                    self.rotations(who) >= ROTATIONS_WANTED,
                    f"{ROTATIONS_WANTED} rotations of {who} ({self.rotations(who)})",
                )
                for who in (self.frontend, self.payments)
            ),
            (self.intruder_turned_away, "the intruder turned away"),
            (self.refusals > 0, "the reason for turning it away, on the operator's side"),
            (self.without_identity > 0, "a process without an entry getting no identity"),
        ]

    def _on_identity(self, event: Event) -> str:
        return f"{event['spiffe_id']} has its identity"

    def _on_listening(self, event: Event) -> str:
        return f"{self.payments} listens on 127.0.0.1:{event['port']}"

    def _on_calls(self, event: Event) -> str | None:
        self.calls, self.failures = event["calls"], event["failures"]
        if self.calls % _LINE_EACH:
            return None
        return f"{event['caller']} called {event['callee']}: {self.calls} calls, {self.failures} failures"

    def _on_call_failed(self, event: Event) -> str:
        self.failures += 1
        self.wrong.append(f"a call from {self.frontend} to {self.payments} failed: {event['reason']}")
        return self.wrong[-1]

    def _on_peer_certificate(self, event: Event) -> str | None:
        seen = self.certificates.setdefault(event["peer"], set())
        seen.add(event["certificate"])
        return (
            None if len(seen) == 1 else f"{event['peer']} rotated: its peer now sees certificate {event['certificate']}"
        )

    def _on_refused(self, event: Event) -> str:
        self.refusals += 1
        return f"{self.payments} refused {event['peer']}: {event['reason']}"

    def _on_intruder_refused(self, event: Event) -> str:
        self.intruder_turned_away = True
        return f"the intruder was turned away, and learned only this: {event['how']}"

    def _on_intruder_served(self, event: Event) -> str:
        self.wrong.append(f"the intruder was served by {self.payments}, which should have refused it")
        return self.wrong[-1]

    def _on_no_identity(self, event: Event) -> str:
        self.without_identity += 1
        return f"a process without an entry got no identity: {event['reason']}"

    def _on_stranger_identified(self, event: Event) -> str:
        self.wrong.append(f"a process without an entry got the identity {event['spiffe_id']}")
        return self.wrong[-1]
