"""The same row function as a simulation of events (simpy): a driver, actors with queues, a shared store, deaths.

It takes the same costs as the closed formulas and is of the same structure as pipelines/_rows.py, so that the two can
disagree: where actors wait for the store or for the driver, end apart, or die.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy
from _scale_model import IN_FLIGHT, Engine, Function, Spent, Store, start_seconds

Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Deaths:
    """An actor lives for `life_s` on average (exponential); `restart_s` later another has taken its place."""

    life_s: float
    restart_s: float
    seed: int = 0


@dataclass(order=True)
class Block:
    """Batches that go to an actor together. What is done of them stays done: it is in the journal."""

    number: int
    batches: int = field(compare=False)
    rows: int = field(compare=False)
    done: int = field(default=0, compare=False)  # batches


@dataclass(frozen=True)
class Simulated:
    """What a simulated run came to."""

    spent: Spent
    batches: int  # files of the journal in the end
    repeated: int  # batches that were begun and lost with their actor
    died: int
    busy: float  # seconds in workers, of batches that were finished


class _Actor:
    """Its queue, and what of it was handed out and is not through."""

    def __init__(self, env: simpy.Environment) -> None:
        self.inbox: simpy.Store = simpy.Store(env)
        self.held: dict[int, Block] = {}
        self.alive = True


class _Run:
    """The state of one run of a function."""

    def __init__(self, function: Function, engine: Engine, store: Store, grain: int) -> None:
        self.env = simpy.Environment()
        self.function, self.engine, self.store, self.grain = function, engine, store, grain
        self.waiting: simpy.PriorityStore = simpy.PriorityStore(self.env)
        self.free: simpy.Store = simpy.Store(self.env)  # an actor, once for each block that it could take
        self.channels = simpy.Resource(self.env, store.streams)
        self.over = self.env.event()
        self.left = function.blocks
        self.finished = self.repeated = self.died = 0
        self.busy = 0.0
        self.first: float | None = None  # when the first batch was begun


def simulate(
    function: Function, engine: Engine, store: Store, deaths: Deaths | None = None, grain: int = 1
) -> Simulated:
    """Run a function to its end. `grain` batches of a block become one event: large runs want many."""
    if not function.rows:
        return Simulated(Spent(0.0, 0.0, 0.0, 0.0), 0, 0, 0, 0.0)
    run = _Run(function, engine, store, grain)
    times: dict[str, float] = {}
    run.env.run(until=run.env.process(_main(run, deaths, times)))
    todo, worked = times["todo"], times["worked"]
    started = worked if run.first is None else run.first
    spent = Spent(todo, started - todo, worked - started, run.env.now - worked)
    return Simulated(spent, run.finished, run.repeated, run.died, run.busy)


def _main(run: _Run, deaths: Deaths | None, times: dict[str, float]) -> Steps:
    """The driver: what is to do, the start, the work, the merge."""
    function, engine, env = run.function, run.engine, run.env
    yield env.timeout(function.rows * engine.item_s)
    times["todo"] = env.now
    left = function.rows
    for number, batches in enumerate(function.block_sizes()):
        rows = min(left, batches * function.batch)
        left -= rows
        yield run.waiting.put(Block(number, batches, rows))
    chance = random.Random(deaths.seed if deaths else 0)
    for _ in range(function.pool):
        env.process(_live(run, start_seconds(function, engine), deaths, chance))
    env.process(_hand_out(run))
    yield run.over
    times["worked"] = env.now
    yield env.timeout(engine.stop_s + run.finished * engine.file_s + function.rows * engine.row_s)


def _hand_out(run: _Run) -> Steps:
    """Blocks to actors that can take one, each for some time of the driver."""
    while True:
        block = yield run.waiting.get()
        actor = yield run.free.get()
        while not actor.alive:
            actor = yield run.free.get()
        actor.held[block.number] = block
        yield run.env.timeout(run.engine.task_s)
        if actor.alive:  # else its blocks wait again already
            actor.inbox.put(block)


def _live(run: _Run, after: float, deaths: Deaths | None, chance: random.Random) -> Steps:
    """One place of the pool: an actor, and those that replace it."""
    yield run.env.timeout(after)
    while True:
        actor = _Actor(run.env)
        for _ in range(IN_FLIGHT):
            run.free.put(actor)
        work = run.env.process(_work(run, actor))
        if deaths is None:
            return
        yield run.env.timeout(chance.expovariate(1 / deaths.life_s))
        actor.alive = False
        run.died += 1
        work.interrupt()
        for block in actor.held.values():
            run.waiting.put(block)
        yield run.env.timeout(deaths.restart_s)


def _work(run: _Run, actor: _Actor) -> Steps:
    """An actor's life: block after block, batch after batch; a batch counts once its file is in the journal."""
    engine, env, function = run.engine, run.env, run.function
    begun = False
    try:
        while True:
            block = yield actor.inbox.get()
            run.first = env.now if run.first is None else run.first
            yield env.timeout(engine.turn_s)
            while block.done < block.batches:
                count = min(run.grain, block.batches - block.done)
                rows = min(count * function.batch, block.rows - block.done * function.batch)
                begun = True
                yield from _transfer(run, rows * function.read, count)
                yield env.timeout(rows * function.worker_s + count * engine.batch_s)
                yield from _transfer(run, rows * function.written, count)
                begun = False
                block.done += count
                run.finished += count
                run.busy += rows * function.worker_s
            del actor.held[block.number]
            run.left -= 1
            if not run.left:
                run.over.succeed()
            run.free.put(actor)
    except simpy.Interrupt:
        run.repeated += begun


def _transfer(run: _Run, size: float, requests: int) -> Steps:
    """Bytes over one of the store's channels; its latency keeps nobody else waiting."""
    if not size:
        return
    yield run.env.timeout(requests * run.store.latency)
    with run.channels.request() as channel:
        yield channel
        yield run.env.timeout(size / run.store.stream_rate)
