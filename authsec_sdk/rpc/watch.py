"""When a connection of a server has to go: a decision over what is known of it, with the time as an argument."""

import enum
from dataclasses import dataclass

from authsec_sdk.rpc.limits import ServerLimits


class Verdict(enum.Enum):
    """What to do with a connection now."""

    KEEP = enum.auto()
    #: It never finished what it began, or answers no more: close it, nothing of worth is lost.
    DROP = enum.auto()
    #: Ask it to leave: GOAWAY that names no stream, and a PING to know when it was read.
    ASK_TO_LEAVE = enum.auto()
    #: It has had the time to read that: name the last stream we serve.
    NAME_LAST_STREAM = enum.auto()
    #: Its last call has ended, after it was asked to leave.
    CLOSE = enum.auto()
    #: It was asked to leave, and the grace is over: end what is left with UNAVAILABLE.
    END_CALLS = enum.auto()
    #: Ask whether it lives.
    PING = enum.auto()


@dataclass(slots=True)
class Vitals:
    """What a connection knows of itself; times are of one monotonic clock."""

    opened_at: float
    #: When it is to be asked to leave, with its own jitter in it; None: never.
    leave_at: float | None
    last_received: float
    #: Since when no call is under way; None: there is one.
    idle_since: float | None
    #: Since when a frame, a header block or the preface is begun and not ended.
    incomplete_since: float | None = None
    #: The preface and SETTINGS are in.
    spoke: bool = False
    asked_to_leave_at: float | None = None
    goaway_read: bool = False
    last_stream_named: bool = False
    grace: float = 0.0
    calls_ended: bool = False
    pinged_at: float | None = None


#: How long after GOAWAY and PING the real last stream is named, also if the PING is never answered.
GOAWAY_READ = 1.0


def judge(vitals: Vitals, now: float, limits: ServerLimits) -> Verdict:
    """The one thing to do next; a connection is looked at again soon after."""
    if not vitals.spoke and now - vitals.opened_at > limits.header_timeout:
        return Verdict.DROP
    if vitals.incomplete_since is not None and now - vitals.incomplete_since > limits.header_timeout:
        return Verdict.DROP
    if vitals.pinged_at is not None and vitals.last_received < vitals.pinged_at:
        if now - vitals.pinged_at > limits.keepalive_timeout:
            return Verdict.DROP
    elif limits.keepalive_time is not None and now - vitals.last_received > limits.keepalive_time:
        return Verdict.PING
    if vitals.asked_to_leave_at is not None:
        return _leaving(vitals, vitals.asked_to_leave_at, now)
    if vitals.leave_at is not None and now >= vitals.leave_at:
        return Verdict.ASK_TO_LEAVE
    if limits.max_idle is not None and vitals.idle_since is not None and now - vitals.idle_since > limits.max_idle:
        return Verdict.ASK_TO_LEAVE
    return Verdict.KEEP


def _leaving(vitals: Vitals, asked_at: float, now: float) -> Verdict:
    if not vitals.last_stream_named:
        if vitals.goaway_read or now - asked_at > GOAWAY_READ:
            return Verdict.NAME_LAST_STREAM
        return Verdict.KEEP
    if vitals.idle_since is not None:
        return Verdict.CLOSE
    if now - asked_at > vitals.grace and not vitals.calls_ended:
        return Verdict.END_CALLS
    return Verdict.KEEP
