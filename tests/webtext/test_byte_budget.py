from __future__ import annotations

import asyncio

from gpt2cli.webtext.byte_budget import ByteBudget, Ticket


async def body(budget: ByteBudget, size: int, step: int = 10) -> None:
    ticket = Ticket(budget)
    for _ in range(size // step):
        if not ticket.take(step):
            await ticket.wait(step)
        await asyncio.sleep(0)
    assert ticket.held == size
    ticket.release()


def test_a_thousand_bodies_come_to_their_end_within_the_budget_and_one_body_more() -> None:
    budget = ByteBudget(1000)

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(body(budget, 500) for _ in range(1000))), 60)

    asyncio.run(run())
    assert budget.used == 0
    assert 1000 <= budget.peak <= 1500


def test_one_body_larger_than_the_budget_comes_to_its_end() -> None:
    budget = ByteBudget(100)
    asyncio.run(asyncio.wait_for(body(budget, 5000), 10))
    assert budget.peak == 5000


def test_one_goes_beyond_then_who_waits_with_most_and_who_gives_up_leaves_no_trace() -> None:
    async def run() -> None:
        budget = ByteBudget(100)
        small, large, beyond, gone = (Ticket(budget) for _ in range(4))
        assert small.take(10) and large.take(90) and beyond.take(50)
        assert not small.take(50) and not large.take(50) and not gone.take(50)
        tasks = [asyncio.create_task(one.wait(50)) for one in (gone, small, large)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        beyond.release()
        await asyncio.wait_for(tasks[2], 5)
        assert (small.held, large.held, gone.held, budget.used) == (10, 140, 0, 150)
        assert large.waited > 0 and not tasks[1].done()
        large.release()
        await asyncio.wait_for(tasks[1], 5)
        assert (small.held, budget.used) == (60, 60)

    asyncio.run(run())
