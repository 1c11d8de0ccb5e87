"""splitwise-sim's rules, one replica at a time, rewritten from its source so that each can be switched off alone.

github.com/mutinifni/splitwise-sim at 8f99e7d (MIT): `SplitwiseInstance.select_batch`, with the numbers of
configs/start_state/baseline.yaml (2,048 tokens a batch, 512 tasks, 4 preemptions), and
`DatabasePerformanceModel.get_iteration_duration`. Its KV limit is left out: `replay` says how much was held, and on
the workload of `agreement.py` that is below it.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

BATCH_TOKENS, BATCH_TASKS, PATIENCE = 2048, 512, 4


@dataclass(frozen=True)
class Steps:
    """How long a step lasts, s: prompts alone by their tokens, decodes by their number, both by `mixed`(tokens, n)."""

    prompts: Callable[[int], float]
    decodes: Callable[[int], float]
    mixed: Callable[[int, int], float]


@dataclass(eq=False)
class Task:
    """The prompt of a request, or its decode; `left` counts decode steps, `passed` the batches it was left out of."""

    request: int
    tokens: int  # a step: the prompt, or 1
    left: int
    passed: int = 0

    @property
    def order(self) -> tuple[int, int]:
        return self.passed, self.request


@dataclass
class Instance:
    """One replica: what waits, what was pushed out, what runs."""

    steps: Steps
    first_s: np.ndarray
    done_s: np.ndarray
    waiting: list[Task] = field(default_factory=list)
    prompts: list[Task] = field(default_factory=list)
    blocked: list[Task] = field(default_factory=list)
    batch: list[Task] = field(default_factory=list)
    pool: dict[int, list[Task]] = field(default_factory=dict)  # the tasks left of each request, in order of arrival

    def arrive(self, request: int, prompt: int, output: int) -> None:
        """Prompt and decode are submitted together; the decode is not looked at before the prompt is done."""
        self.pool[request] = [Task(request, prompt, 0), Task(request, 1, output - 1)]
        self.prompts.append(self.pool[request][0])
        for task in self.pool[request]:
            insort(self.waiting, task, key=lambda t: t.order)

    def select(self) -> list[Task]:
        """The next batch: the long-suffering, then prompts, decodes pushed out, decodes that ran, new decodes."""
        chosen: dict[int, Task] = {}
        tokens = 0

        def offer(task: Task) -> bool:
            """Whether there was room; a first task always has, however long its prompt."""
            nonlocal tokens
            if len(chosen) == BATCH_TASKS or (chosen and tokens + task.tokens > BATCH_TOKENS):
                return False
            if task.request not in chosen:
                chosen[task.request] = task
                tokens += task.tokens
            return True

        suffering = self.waiting[: next((i for i, t in enumerate(self.waiting) if t.passed < PATIENCE), None)]
        started = (tasks[0] for tasks in self.pool.values())
        for group in (suffering, self.prompts, self.blocked, [t for t in self.batch if t.left], started):
            if not all(offer(task) for task in group):
                continue  # this group is cut short; the next is tried
        return list(chosen.values())

    def start(self) -> None:
        """Put the next batch in place; who ran and is not in it was pushed out."""
        new, old = self.select(), self.batch
        for task in [t for t in old if t not in new]:
            insort(self.waiting, task, key=lambda t: t.order)
            self.blocked.append(task)
        for task in [t for t in new if t not in old]:
            self.waiting.remove(task)
            for queue in (self.blocked, self.prompts):
                if task in queue:
                    queue.remove(task)
        self.batch = new
        for tasks in self.pool.values():
            tasks[0].passed += tasks[0] not in new

    def step_s(self) -> float:
        """How long one step of the batch lasts."""
        tokens = sum(t.tokens for t in self.batch)
        decodes = sum(t.left > 0 for t in self.batch)
        if decodes == len(self.batch):
            return self.steps.decodes(decodes)
        return self.steps.prompts(tokens) if decodes == 0 else self.steps.mixed(tokens, decodes)

    def finish(self, steps: int, t: float) -> None:
        """What `steps` steps, ending at t, did."""
        left = []
        for task in self.batch:
            if task.left == 0:
                self.first_s[task.request] = t
            task.left -= steps if task.left else 0
            if task.left and task is not self.pool[task.request][0]:
                raise RuntimeError("a decode ran before its prompt")
            if task.left:
                left.append(task)
                continue
            self.pool[task.request].pop(0)
            if not self.pool[task.request]:
                del self.pool[task.request]
                self.done_s[task.request] = t
        self.batch = left


def replay(
    arrival_s: np.ndarray, prompts: np.ndarray, outputs: np.ndarray, replicas: int, steps: Steps
) -> tuple[np.ndarray, np.ndarray, int]:
    """(time of the first token, time of the last, most tokens any replica held), round robin; outputs >= 2."""
    first_s, done_s = np.full(len(arrival_s), np.nan), np.full(len(arrival_s), np.nan)
    most = 0
    for replica in range(replicas):
        mine = np.arange(replica, len(arrival_s), replicas)
        most = max(most, _one(mine, arrival_s, prompts, outputs, Instance(steps, first_s, done_s)))
    return first_s, done_s, most


def _one(mine: np.ndarray, arrival_s: np.ndarray, prompts: np.ndarray, outputs: np.ndarray, one: Instance) -> int:
    """One replica's requests; the most tokens it held, counting answers in full as splitwise-sim does."""
    times, i, t, most = arrival_s[mine], 0, 0.0, 0
    while i < len(mine) or one.pool:
        if not one.batch and not one.pool:  # idle: the next arrival starts a batch of its own
            t = float(times[i])
            one.arrive(int(mine[i]), int(prompts[mine[i]]), int(outputs[mine[i]]))
            i += 1
        one.start()
        held = list(one.pool)
        most = max(most, int(prompts[held].sum() + outputs[held].sum()))
        step = one.step_s()
        # decodes run until the first of them ends, or to the end of the step in which something arrives
        steps = 1 if any(task.left == 0 for task in one.batch) else min(task.left for task in one.batch)
        if steps > 1 and i < len(mine) and times[i] < t + steps * step:
            steps = int((times[i] - t) // step) + 1
        t += steps * step
        upto = bisect_right(times, t, lo=i)
        upto -= upto > i and times[upto - 1] == t  # an arrival at this very instant comes after
        for k in mine[i:upto]:
            one.arrive(int(k), int(prompts[k]), int(outputs[k]))
        i = upto
        one.finish(steps, t)
    return most
