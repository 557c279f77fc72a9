"""Processes of the engine: what one does not survive harms neither the server nor the others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import DeadlyImageError, ProcessorError, TooSlowError
from optidash_integrations.server.engine_pool import Deadly, EngineError, Engines, OverloadedError
from optidash_integrations.server.engine_process import Child, EndedError, Job
from tests.server.clocks import Clock
from tests.server.live import configured
from tests.sites.photos import photo

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Give a function that makes jobs; a `slow` one lasts until its source is written."""
    count = 0

    def make(operations: dict[str, Any] | None = None, *, slow: bool = False) -> Job:
        nonlocal count
        count += 1
        source = tmp_path / f"source-{count}"
        if slow:
            os.mkfifo(source)
        else:
            source.write_bytes(photo())
        return Job(source, tmp_path / f"result-{count}", operations or {}, f"digest-{count}")

    return make


@asynccontextmanager
async def started(folder: Path, **values: Any) -> AsyncIterator[Engines]:
    engines = Engines(configured(folder, **values))
    engines.start()
    try:
        await until(lambda: len(engines.children) == engines.count)
        yield engines
    finally:
        await engines.close()


async def until(question: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not question():  # noqa: ASYNC110  it happens in other processes
            await asyncio.sleep(0.005)


async def begun(engines: Engines, job: Job) -> asyncio.Task[Any]:
    """Begin with a job, and wait until a process has it."""
    running = engines.running
    task = asyncio.create_task(engines.process(job))
    await until(lambda: engines.running > running)
    return task


def finish(job: Job) -> None:
    """Let a slow job end."""
    with job.source.open("wb") as source:
        source.write(photo())


async def test_a_job_is_done_and_told_of(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        job = make_job({"resize": {"width": 60}})
        told = await engines.process(job)
        assert (told["type"], told["output"]["width"]) == ("image/jpeg", 60)
        assert job.result.stat().st_size == told["output"]["bytes"]


async def test_a_source_in_memory_is_as_good_as_a_file(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        for width in (60, 30):  # the second must not see what the first has left
            content = photo() if width == 60 else photo() + b"more"
            job = replace(make_job({"resize": {"width": width}}), source=content)
            told = await engines.process(job)
            assert told["input"]["bytes"] == len(content)
            assert told["output"]["width"] == width


async def test_a_result_is_put_where_it_belongs_and_comes_back_if_it_is_short(
    tmp_path: Path, make_job: MakeJob
) -> None:
    async with started(tmp_path) as engines:
        homes = [tmp_path / "temp" / "5f" / str(number) for number in range(3)]
        jobs = [replace(make_job(), home=home, name="harbour.old") for home in homes]
        kept = await engines.process(jobs[0])
        assert kept["name"] == "harbour.jpg"
        content = (homes[0] / "harbour.jpg").read_bytes()
        assert (len(content), "content" in kept) == (kept["output"]["bytes"], False)
        short = await engines.process(replace(jobs[1], wanted=len(content)))
        assert short["content"] == (homes[1] / "harbour.jpg").read_bytes() == content
        long = await engines.process(replace(jobs[2], wanted=len(content) - 1))
        assert not long.keys() & {"name", "content"}
        assert (jobs[2].result.read_bytes(), homes[2].exists()) == (content, False)
        assert not jobs[0].result.exists()


async def test_an_image_in_memory_that_ends_a_process_is_not_tried_again(tmp_path: Path) -> None:
    async with started(tmp_path) as engines:
        (child,) = engines.children
        os.kill(child.process.pid, signal.SIGSTOP)
        job = Job(photo(), tmp_path / "result", {})
        task = await begun(engines, job)
        child.process.kill()
        with pytest.raises(ProcessorError):
            await task
        for source in (photo(), written(tmp_path / "again", photo())):
            with pytest.raises(DeadlyImageError):
                await engines.process(replace(job, source=source))
        other = Job(photo() + b"other", tmp_path / "result", {})
        assert (await engines.process(other))["type"] == "image/jpeg"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_what_the_engine_refuses_keeps_its_status(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        job = make_job()
        job.source.write_bytes(b"no image")
        with pytest.raises(EngineError) as caught:
            await engines.process(job)
        assert caught.value.public_status == 415
        assert str(tmp_path) not in caught.value.public
        assert (await engines.process(make_job()))["type"] == "image/jpeg"


async def test_trouble_of_ours_is_not_told_in_detail(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        job = replace(make_job(), source=tmp_path / "missing")
        with pytest.raises(EngineError) as caught:
            await engines.process(job)
        assert caught.value.public_status == 500
        assert "missing" not in caught.value.public


async def test_a_killed_process_is_replaced_and_its_image_not_tried_again(
    tmp_path: Path, make_job: MakeJob
) -> None:
    async with started(tmp_path) as engines:
        job = make_job(slow=True)
        task = await begun(engines, job)
        (child,) = engines.children
        child.process.kill()
        with pytest.raises(ProcessorError):
            await task
        with pytest.raises(DeadlyImageError):
            await engines.process(job)
        assert (await engines.process(make_job()))["type"] == "image/jpeg"
        assert engines.children != {child}
    with pytest.raises(DeadlyImageError):
        Engines(configured(tmp_path)).deadly.check(job.digest)


async def test_others_are_unharmed_when_one_process_is_killed(
    tmp_path: Path, make_job: MakeJob
) -> None:
    async with started(tmp_path, engines=2) as engines:
        first, second = make_job(slow=True), make_job(slow=True)
        idle = list(engines.idle)
        one, other = await begun(engines, first), await begun(engines, second)
        idle[0].process.kill()
        with pytest.raises(ProcessorError):
            await one
        finish(second)
        assert (await other)["type"] == "image/jpeg"


async def test_a_process_that_died_idle_blames_nobody(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        (child,) = engines.children
        child.process.kill()
        await until(lambda: not child.is_alive)
        job = make_job()
        assert (await engines.process(job))["type"] == "image/jpeg"


async def test_past_the_queue_there_is_no_waiting(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path, queue=1) as engines:
        slow, waiting = make_job(slow=True), make_job()
        one = await begun(engines, slow)
        two = asyncio.create_task(engines.process(waiting))
        await until(lambda: engines.waiting == 1)
        with pytest.raises(OverloadedError) as caught:
            await engines.process(make_job())
        assert caught.value.headers == [("retry-after", str(caught.value.seconds))]
        assert 1 <= caught.value.seconds <= 60
        finish(slow)
        assert (await one)["type"] == (await two)["type"] == "image/jpeg"


async def test_who_waits_and_goes_leaves_the_queue(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        slow, dropped = make_job(slow=True), make_job()
        one = await begun(engines, slow)
        two = asyncio.create_task(engines.process(dropped))
        await until(lambda: engines.waiting == 1)
        two.cancel()
        with pytest.raises(asyncio.CancelledError):
            await two
        assert engines.waiting == 0
        finish(slow)
        await one
        assert (await engines.process(make_job()))["type"] == "image/jpeg"
        assert not dropped.result.exists()


async def test_who_goes_when_their_turn_comes_loses_no_process(
    tmp_path: Path, make_job: MakeJob
) -> None:
    async with started(tmp_path) as engines:
        slow = make_job(slow=True)
        one = await begun(engines, slow)
        two = asyncio.create_task(engines.process(make_job()))
        await until(lambda: engines.waiting == 1)
        (waiter,) = engines.waiters
        waiter.add_done_callback(lambda _: two.cancel())
        finish(slow)
        await one
        with pytest.raises(asyncio.CancelledError):
            await two
        assert (await engines.process(make_job()))["type"] == "image/jpeg"


async def test_work_that_nobody_waits_for_is_ended_and_blames_nobody(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optidash_integrations.server.engine_pool.ABANDONED_SECONDS", 0.05)
    async with started(tmp_path) as engines:
        job = make_job(slow=True)
        task = await begun(engines, job)
        (child,) = engines.children
        task.cancel()
        await until(lambda: not child.is_alive)
        engines.deadly.check(job.digest)
        assert (await engines.process(make_job()))["type"] == "image/jpeg"


async def test_what_takes_too_long_is_ended(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        engines.seconds = 0.05
        job = make_job(slow=True)
        with pytest.raises(TooSlowError):
            await engines.process(job)
        engines.seconds = 30
        assert (await engines.process(make_job()))["type"] == "image/jpeg"
        engines.deadly.check(job.digest)


async def test_closing_ends_everything(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        job = make_job(slow=True)
        one = await begun(engines, job)
        two = asyncio.create_task(engines.process(make_job()))
        await until(lambda: engines.waiting == 1)
        (child,) = engines.children
        await engines.close()
        with pytest.raises(ProcessorError):
            await one
        with pytest.raises(OverloadedError):
            await two
        assert child.process.poll() is not None
        engines.deadly.check(job.digest)


async def test_a_result_that_nobody_waits_for_is_not_kept(
    tmp_path: Path, make_job: MakeJob
) -> None:
    async with started(tmp_path) as engines:
        for home in (None, tmp_path / "temp" / "5f" / "result"):
            job = replace(make_job(slow=True), home=home, name="harbour.png")
            task = await begun(engines, job)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            finish(job)
            await until(lambda: engines.idle and not engines.tasks)
            assert not job.result.exists()
            assert home is None or not home.exists()


async def test_a_process_ends_with_its_server(tmp_path: Path, make_job: MakeJob) -> None:
    async with started(tmp_path) as engines:
        task = await begun(engines, make_job(slow=True))
        (child,) = engines.children
        child.writer.close()
        await until(lambda: child.process.poll() is not None)
        with suppress(ProcessorError):
            await task


async def test_a_process_that_does_not_start_is_told_of(tmp_path: Path) -> None:
    child = Child()
    with pytest.raises(EndedError):
        await child.start("no setup", dict(os.environ))


def test_images_are_forgiven_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    deadly = Deadly(tmp_path / "deadly", clock)
    deadly.add("abc")
    os.utime(tmp_path / "deadly" / "abc", (clock(), clock()))
    with pytest.raises(DeadlyImageError):
        deadly.check("abc")
    deadly.check("other")
    deadly.sweep()
    assert not deadly.is_empty
    clock.seconds += 8 * 86_400
    deadly.check("abc")
    deadly.sweep()
    assert deadly.is_empty
