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


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    async def run() -> None:
        budget = ByteBudget(100)
        first, second, third = Ticket(budget), Ticket(budget), Ticket(budget)
        assert first.take(100) and not second.take(50) and not third.take(50)
        gone, waiting = (asyncio.create_task(one.wait(50)) for one in (second, third))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        second.release()
        first.give_back(60)
        await asyncio.wait_for(waiting, 5)
        assert (first.held, second.held, third.held, budget.used) == (40, 0, 50, 90)
        assert third.waited > 0

    asyncio.run(run())


def test_whoever_becomes_the_oldest_goes_on_though_nothing_came_back() -> None:
    async def run() -> None:
        budget = ByteBudget(100)
        first, second, third = Ticket(budget), Ticket(budget), Ticket(budget)
        assert first.take(0) and second.take(100) and not second.take(50) and not third.take(50)
        waiting = asyncio.create_task(second.wait(50))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        first.release()
        await asyncio.wait_for(waiting, 5)
        assert second.held == 150

    asyncio.run(run())
