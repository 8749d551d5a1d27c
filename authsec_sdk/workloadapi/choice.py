"""Which of several SVIDs a workload uses: the first one, the one with a hint, or the one its picker picks; pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from authsec_sdk.errors import CallerError, NoIdentityError
from authsec_sdk.spiffe import X509SVID, SpiffeID, X509Context

__all__ = ["SVIDPicker", "choose", "hinted"]


class _Hinted(Protocol):
    """An SVID of any kind."""

    @property
    def id(self) -> SpiffeID: ...

    @property
    def hint(self) -> str: ...


_SVID = TypeVar("_SVID", bound=_Hinted)

SVIDPicker = Callable[[tuple[X509SVID, ...]], X509SVID]
"""Given the SVIDs of an update in the agent's order, returns the one to use."""


def choose(context: X509Context, picker: SVIDPicker | None, hint: str | None) -> X509Context:
    """Return the context with the chosen SVID first, where `X509Context.svid` looks.

    Raises:
        NoIdentityError: no SVID has this hint.
        CallerError: the picker failed, or returned something it was not given.
    """
    if hint is not None:
        return _first(context, hinted(context.svids, hint))
    if picker is not None:
        return _first(context, _picked(context.svids, picker))
    return context


def hinted(svids: Iterable[_SVID], hint: str, kind: str = "SVID") -> _SVID:
    """Return the SVID with this hint.

    Raises:
        NoIdentityError: there is none; the text says which there are.
    """
    svids = tuple(svids)
    for svid in svids:
        if svid.hint == hint:
            return svid
    there = ", ".join(f"{svid.hint!r} ({svid.id})" for svid in svids)
    raise NoIdentityError(f"no {kind} has the hint {hint!r}; there are {there}: set the hint in the registration entry")


def _first(context: X509Context, chosen: X509SVID) -> X509Context:
    others = tuple(svid for svid in context.svids if svid is not chosen)
    return replace(context, svids=(chosen, *others))


def _picked(svids: tuple[X509SVID, ...], picker: SVIDPicker) -> X509SVID:
    try:
        chosen = picker(svids)
    except Exception as error:
        raise CallerError(f"svid_picker failed: {type(error).__name__}: {error}") from error
    for svid in svids:
        if svid is chosen:
            return svid
    raise CallerError(f"svid_picker must return one of the SVIDs it was given, not {type(chosen).__name__}")
