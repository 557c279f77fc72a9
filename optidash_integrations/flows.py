"""Decide once, act twice: a flow is a generator that yields steps, and two drivers carry them out.

The same rules so serve sync and async adapters: `run` works in the caller's thread, `run_async`
keeps blocking work off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, TypeVar

from optidash_integrations.errors import DeadlineError

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Do:
    """Call something that reads a file, a storage or a socket, or hashes many bytes."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for shared work, at most `seconds`; None means as long as it takes.

    The work belongs to nobody: a caller that gives up does not end it for the others.
    """

    future: Future[Any]
    seconds: float | None


Step = Do | Wait
Flow = Generator[Step, Any, T]


def drive(flow: Generator[S, Any, T], act: Callable[[S], Any]) -> T:
    """Carry out a flow: `act` does its steps, and what it raises goes back into the flow."""
    answer: Any = None
    error: BaseException | None = None
    with closing(flow):
        while True:
            try:
                step = flow.throw(error) if error else flow.send(answer)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            answer = error = None
            try:
                answer = act(step)
            except Exception as raised:  # noqa: BLE001  the flow decides what an error means
                error = raised


async def drive_async(flow: Generator[S, Any, T], act: Callable[[S], Awaitable[Any]]) -> T:
    """Carry out a flow on an event loop."""
    answer: Any = None
    error: BaseException | None = None
    with closing(flow):
        while True:
            try:
                step = flow.throw(error) if error else flow.send(answer)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            answer = error = None
            try:
                answer = await act(step)
            except Exception as raised:  # noqa: BLE001  the flow decides what an error means
                error = raised


def run(flow: Flow[T], waiters: BoundedSemaphore | None = None) -> T:
    """Carry out a flow in this thread.

    `waiters` bounds how many threads may wait for shared work at a time: one that finds no place
    is told at once that the deadline has passed.
    """
    return drive(flow, lambda step: step.work() if isinstance(step, Do) else waited(step, waiters))


def waited(step: Wait, waiters: BoundedSemaphore | None) -> Any:
    if step.future.done() or waiters is None:
        return result_of(step)
    if not waiters.acquire(blocking=False):
        raise DeadlineError("as many requests wait for images as may wait at a time")
    try:
        return result_of(step)
    finally:
        waiters.release()


def result_of(step: Wait) -> Any:
    try:
        return step.future.result(step.seconds)
    except TimeoutError:
        if step.future.done():  # the work's own time-out
            raise
        raise DeadlineError(f"not ready within {step.seconds:g} s") from None


async def run_async(flow: Flow[T], executor: Executor) -> T:
    """Carry out a flow on an event loop; `executor` does what would block it."""
    loop = asyncio.get_running_loop()

    def act(step: Step) -> Awaitable[Any]:
        if isinstance(step, Do):
            return loop.run_in_executor(executor, step.work)
        return waited_async(step)

    return await drive_async(flow, act)


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Do something in a thread. A caller who is cancelled goes on only when that has ended: what
    comes after would otherwise undo less than was done.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def waited_async(step: Wait) -> Any:
    shared = asyncio.wrap_future(step.future)
    try:
        # Unshielded, one caller's time-out would cancel the work for everybody.
        return await asyncio.wait_for(asyncio.shield(shared), step.seconds)
    except TimeoutError:
        if step.future.done():
            return step.future.result()
        shared.add_done_callback(forget)
        raise DeadlineError(f"not ready within {step.seconds:g} s") from None
    except asyncio.CancelledError:
        shared.add_done_callback(forget)
        raise


def forget(abandoned: asyncio.Future[Any]) -> None:
    """Take note of an abandoned result, so that asyncio does not report it as never retrieved."""
    if not abandoned.cancelled():
        abandoned.exception()
