"""Calls over grpcio that live on: their caller is admitted again, at the next message, whenever the policy changed."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

__all__ = ["judged_again"]

Generation = Callable[[], int | None]


def judged_again(
    behavior: Callable[..., Any],
    generation: Generation,
    admit: Callable[[Any], object],
    aio_admit: Callable[[Any], Awaitable[object]],
    *,
    takes: bool,
    gives: bool,
) -> Callable[..., Any]:
    """Return a handler of the same kind whose streams of requests and answers admit the caller again.

    `admit` and `aio_admit` abort the call they are given the context of. The first message is judged in every case: the
    policy may have changed since the call was. Not judged: what a handler reads and writes by its context.
    """
    if inspect.iscoroutinefunction(behavior):

        async def awaited(request: Any, context: Any) -> Any:
            messages = _aio_each(request, generation, aio_admit, context) if takes else request
            return await behavior(messages, context)

        return awaited
    if inspect.isasyncgenfunction(behavior):

        async def generated(request: Any, context: Any) -> AsyncIterator[Any]:
            messages = _aio_each(request, generation, aio_admit, context) if takes else request
            async with contextlib.aclosing(behavior(messages, context)) as answers:
                async for answer in _aio_each(answers, generation, aio_admit, context):
                    yield answer

        return generated

    def plain(request: Any, context: Any, *more: Any) -> Any:
        messages = _each(request, generation, admit, context) if takes else request
        answer = behavior(messages, context, *more)
        return _each(answer, generation, admit, context) if gives else answer

    return plain


def _each(
    messages: Iterable[Any], generation: Generation, admit: Callable[[Any], object], context: Any
) -> Iterator[Any]:
    seen: int | None = None
    for message in messages:
        if (newest := generation()) != seen:
            admit(context)
            seen = newest
        yield message


async def _aio_each(
    messages: AsyncIterable[Any], generation: Generation, admit: Callable[[Any], Awaitable[object]], context: Any
) -> AsyncIterator[Any]:
    seen: int | None = None
    async for message in messages:
        if (newest := generation()) != seen:
            await admit(context)
            seen = newest
        yield message
