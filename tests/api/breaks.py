"""Faults in which the connection ends too early, goes silent or slow, or speaks no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.api.answers import Answer
from tests.api.calls import Call
from tests.api.fault import CLOSE, Fault
from tests.api.wire import CONTINUE, chunk

Framing = Callable[[Answer], tuple[str, str]]

CHUNKED = ("Transfer-Encoding", "chunked")


def garbage(data: bytes = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x00\x05\xdc\r\n\r\n") -> Fault:
    """Answer in another language than HTTP."""

    async def play(call: Call) -> None:
        await call.connection.send(data)
        await call.end()

    return Fault("garbage", play)


def close_at_once() -> Fault:
    """Break the connection off when a request begins to come; its body is not read."""

    async def play(call: Call) -> None:
        call.is_last = True
        call.connection.reset()

    return Fault("close_at_once", play, reads_body=False)


def close_before_head(*, reset: bool = False) -> Fault:
    """Close the connection, or with `reset` break it off, when the request has come in whole."""

    async def play(call: Call) -> None:
        call.is_last = True
        if reset:
            call.connection.reset()

    return Fault("close_before_head", play)


def close_after_answer() -> Fault:
    """Answer rightly, and then close the connection without having said so."""

    async def play(call: Call) -> None:
        await call.give(await call.answer())
        call.is_last = True

    return Fault("close_after_answer", play)


def partial(
    name: str,
    at: float,
    after: Callable[[Call], Awaitable[None]],
    framing: Framing,
) -> Fault:
    """Send a true head with `framing`, and the body up to the part `at` of it, then `after`."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        body, frame = answer.body, framing(answer)
        if frame == CLOSE and at == 1:
            call.count(answer)
        await call.begin(answer, frame)
        await call.stream(body, int(body.length * at), chunked=frame == CHUNKED)
        await after(call)

    return Fault(name, play)


def length(more: int = 0) -> Framing:
    """Announce the body's length, or `more` than that."""
    return lambda answer: ("Content-Length", str(max(0, answer.body.length + more)))


def cut(at: float = 0.5) -> Fault:
    """Close the connection when the part `at` of the body has been sent."""
    return partial(f"cut({at})", at, Call.end, length())


def close_after_head() -> Fault:
    """Close the connection before the body."""
    return replace(cut(0), name="close_after_head")


def short_length(less: int = 1) -> Fault:
    """Announce `less` bytes than are sent."""
    return partial("short_length", 1, Call.end, length(-less))


def long_length(more: int = 1) -> Fault:
    """Announce `more` bytes than are sent, then close."""
    return partial("long_length", 1, Call.end, length(more))


def chunked_cut(at: float = 0.5) -> Fault:
    """Send part of the body in chunks, and close without the last one."""
    return partial(f"chunked_cut({at})", at, Call.end, lambda answer: CHUNKED)


def no_length() -> Fault:
    """Send all of the body without its length; its end is the connection's."""
    return partial("no_length", 1, Call.end, lambda answer: CLOSE)


def no_length_cut(at: float = 0.5) -> Fault:
    """Do the same with a part of the body: only the metadata tells that there was more."""
    return partial(f"no_length_cut({at})", at, Call.end, lambda answer: CLOSE)


# Silence


async def silence(call: Call) -> None:
    call.is_last = True
    await call.connection.until_gone()


def stall_before_head() -> Fault:
    """Say nothing until the client gives up."""
    return Fault("stall_before_head", silence)


def stall_mid_body(at: float = 0.5) -> Fault:
    """Send part of the body, then say nothing until the client gives up."""
    return partial(f"stall_mid_body({at})", at, silence, length())


def drip(every: float | None = None) -> Fault:
    """Send the head and one byte, and then one more every so many seconds, else nothing."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        await call.begin(answer, length()(answer))
        for byte in answer.body.read():
            await call.connection.send(bytes((byte,)))
            if every is None:
                await silence(call)
                return
            await asyncio.sleep(every)

    return Fault("drip", play)


# Slowness. `tick` is called before each piece: it lets the clock of a test go on, and nobody waits.

Tick = Callable[[], None]


async def trickle(call: Call, tick: Tick, piece: bytes, times: int) -> None:
    for _ in range(times):
        tick()
        await call.connection.send(piece)


def slow_head(tick: Tick, length: int = 50_000) -> Fault:
    """Begin a head, and go on with it byte by byte."""

    async def play(call: Call) -> None:
        await call.connection.send(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        await trickle(call, tick, b"x", length)
        await call.connection.send(b"\r\n")
        await call.give(await call.answer())

    return Fault("slow_head", play)


def early_heads(tick: Tick, number: int = 50_000) -> Fault:
    """Send one head of status 100 after the other, before the answer."""

    async def play(call: Call) -> None:
        await trickle(call, tick, CONTINUE, number)
        await call.give(await call.answer())

    return Fault("early_heads", play)


def slow_chunk(tick: Tick, length: int = 50_000) -> Fault:
    """Begin a chunk with its length, and go on in its extension byte by byte."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        await call.begin(answer, CHUNKED)
        body = answer.body.read()
        await call.connection.send(b"%x;" % len(body))
        await trickle(call, tick, b"x", length)
        await call.connection.send(b"\r\n" + body + b"\r\n" + chunk(b""))

    return Fault("slow_chunk", play)


def slow_body(tick: Tick, piece: int = 1) -> Fault:
    """Send the body in pieces of so many bytes."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        await call.begin(answer, length()(answer))
        body = answer.body.read()
        for start in range(0, len(body), piece):
            await trickle(call, tick, body[start : start + piece], 1)

    return Fault("slow_body", play)
