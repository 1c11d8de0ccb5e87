"""How replicas of the slow, obvious fleet come and go: scaling, machines, donating, reshaping, faults."""

from reference_model import Request, Rules, Shape
from reference_replica import Replica


class Machines:
    """The part of `Fleet` that starts and ends replicas."""

    replicas: list[Replica]
    rules: Rules
    now: float
    denied: dict[int, int]
    actions: list[float]
    down: dict[int, float]  # region: when it returns
    groups: list[tuple[int, list[Replica], list[Shape], float | None]]  # pool, those that drain, what follows, start-up

    def pool(self, pool: int, *states: str) -> list[Replica]:
        rows = [r for r in self.replicas if r.pool == pool and r.state in (states or ("active",))]
        return sorted(rows, key=lambda r: r.index)

    def sorted(self, state: str) -> list[Replica]:
        return sorted((r for r in self.replicas if r.state == state), key=lambda r: (r.pool, r.index))

    def find(self, pool: int, index: int) -> Replica | None:
        return next((r for r in self.replicas if (r.pool, r.index) == (pool, index)), None)

    def is_down(self, region: int) -> bool:
        return self.now < self.down.get(region, 0.0)

    def deny(self, pool: int, count: int) -> None:
        self.denied[pool] = self.denied.get(pool, 0) + count

    def tidy(self) -> None:
        """Draining replicas with nothing left end; those whose start-up is over become active."""
        # reading: a replica drains at once, in whatever phase of the instant its last request leaves
        for replica in self.sorted("draining"):
            self.end_drained(replica)
        for replica in self.sorted("starting"):
            if replica.state == "starting" and replica.ready <= self.now:
                self.activate(replica)

    def end_drained(self, replica: Replica) -> None:
        if replica.state == "draining" and replica.drained:
            if replica.after == "reshape":
                self.restart(replica)
            elif replica.after == "regroup":
                replica.state = "empty"  # reading: its machines wait for the others, and are paid for as if it drained
                self.follow(replica)
            else:
                replica.become(replica.after, self.now)

    # machines
    def shape(self, pool: int) -> Shape:
        """Of a new replica."""
        # reading: a new replica has the pool's own profile, whatever was reshaped
        if self.rules.shapes:
            return self.rules.shapes[pool]
        return self.pool(pool, "starting", "active", "draining", "donated", "off")[0].shape

    def free_gpus(self, region: int, gpu: str, but: Replica | None = None) -> float:
        if region not in self.rules.inventory:
            return float("inf")
        here = [r for r in self.replicas if self.rules.region(r.pool) == region and r.state != "off" and r is not but]
        used = sum(r.shape.gpus for r in here if r.shape.gpu == gpu)
        return self.rules.inventory[region].get(gpu, 0) - used

    def donated(self, pools: list[int], gpu: str | None = None) -> list[Replica]:
        # reading: the oldest donated one is the one donated first; ties by pool, then number
        rows = [r for r in self.replicas if r.pool in pools and r.state == "donated"]
        rows = [r for r in rows if gpu is None or r.shape.gpu == gpu]
        return sorted(rows, key=lambda r: (r.history[-1][0], r.pool, r.index))

    def start_one(self, pool: int, kind: Shape | None = None) -> Replica | None:
        """One more replica of a pool (of a kind of its replicas), or None where it is denied."""
        region = self.rules.region(pool)
        if self.is_down(region):
            return None  # reading: counted as denied
        # reading: a donated replica of the same pool comes back under its own number, with the shape it had
        for replica in [r for r in self.donated([pool]) if kind is None or r.shape is kind][:1]:
            replica.start(replica.shape, self.now, self.rules.starting_s("warm", pool, replica.index))
            return replica
        shape = self.shape(pool) if kind is None else kind
        if self.free_gpus(region, shape.gpu) >= shape.gpus:
            return self.new(pool, shape, "cold")
        # reading: as many donated ones as its GPUs need beside the free machines go off; none where all are too few
        # reading: where a kind is named, the pool's own donated ones of another kind are among them
        others = [
            p for p in range(len(self.rules.pool_region)) if (kind or p != pool) and self.rules.region(p) == region
        ]
        gone: list[Replica] = []
        for replica in self.donated(others, shape.gpu):
            gone.append(replica)
            if self.free_gpus(region, shape.gpu) + sum(r.shape.gpus for r in gone) >= shape.gpus:
                for taken in gone:
                    taken.become("off", self.now)
                return self.new(pool, shape, "swap")
        return None

    def new(self, pool: int, shape: Shape, kind: str, startup_s: float | None = None) -> Replica:
        """startup_s: not drawn."""
        index = 1 + max((r.index for r in self.replicas if r.pool == pool), default=-1)
        startup_s = self.rules.starting_s(kind, pool, index) if startup_s is None else startup_s
        replica = Replica(pool, index, shape, "starting", self.now + startup_s, self.now)
        self.replicas.append(replica)
        return replica

    # actions
    def scale(self, pool: int, count: int, startup_s: float | None = None) -> None:
        if startup_s is not None:
            self.rules.startup = {"cold": startup_s, "warm": startup_s, "swap": startup_s}
        count = min(count, self.rules.most[pool]) if self.rules.most else count
        leaving = self.pool(pool, "draining")  # oldest first
        # reading: one that drains to be reshaped counts as live, else a policy that asks for the same count at its
        # next tick would undo it; one that drains to be donated is taken back like any other
        live = self.pool(pool, "starting", "active") + [r for r in leaving if r.after == "reshape"]
        # reading: so do those that are to follow others on their machines
        count -= self.following(pool)
        for replica in [r for r in leaving if r.after not in ("reshape", "regroup")]:
            if len(live) >= count:
                break
            replica.after = "off"
            self.actions.append(self.now)
            self.activate(replica)
            live.append(replica)
        while len(live) < count:
            replica = self.start_one(pool)
            if replica is None:
                self.deny(pool, count - len(live))
                break
            self.actions.append(self.now)
            live.append(replica)
        self.tidy()
        self.drain(pool, len(live) - count, "off")

    def scale_of(self, pool: int, shape: int, count: int) -> None:
        """As `scale`, of the pool's replicas of one shape; the bound is of all together."""
        kind, leaving = self.rules.shapes[shape], self.pool(pool, "draining")
        back = [r for r in leaving if r.after == "reshape"]
        whole = len(self.pool(pool, "starting", "active")) + len(back) + self.following(pool)
        have = len([r for r in self.pool(pool, "starting", "active") if r.shape is kind])
        have += len([r for r in back if r.next_shape is kind]) + self.following(pool, kind)
        room = max(self.rules.most[pool] - whole, 0) if self.rules.most else count
        missing = min(count - have, room)
        for replica in [r for r in leaving if r.after not in ("reshape", "regroup") and r.shape is kind]:
            if missing <= 0:
                break
            replica.after = "off"
            self.actions.append(self.now)
            self.activate(replica)
            missing -= 1
        while missing > 0:
            if self.start_one(pool, kind) is None:
                self.deny(pool, missing)
                break
            self.actions.append(self.now)
            missing -= 1
        self.tidy()
        self.drain(pool, have - count, "off", kind)

    def open(self, pool: int) -> None:
        """A router asked for one more."""
        leaving = [r for r in self.pool(pool, "draining") if r.after == "reshape"]
        have = len(self.pool(pool, "starting", "active")) + len(leaving) + self.following(pool)
        if not self.rules.most or have < self.rules.most[pool]:
            self.scale(pool, have + 1)

    def donate(self, pool: int, count: int) -> None:
        # reading: a starting replica, which scale-in cancels, is donated at once
        self.drain(pool, count, "donated")

    def donate_of(self, pool: int, shape: int, count: int) -> None:
        self.drain(pool, count, "donated", self.rules.shapes[shape])

    def drain(self, pool: int, count: int, after: str, kind: Shape | None = None) -> None:
        """Starting ones first, then those with the fewest outstanding tokens, ties to the youngest."""
        for _ in range(count):
            live = [r for r in self.pool(pool, "starting", "active") if kind is None or r.shape is kind]
            if not live:
                break
            victim = min(live, key=lambda r: (r.state != "starting", r.outstanding(), -r.index))
            victim.after = after
            self.actions.append(self.now)
            victim.become("draining", self.now)
        self.tidy()

    def reshape(self, pool: int, index: int, shape: int) -> None:
        # reading: only an active or a starting replica; others are left alone
        replica = self.find(pool, index)
        if replica is None or replica.state not in ("active", "starting"):
            return
        replica.after, replica.next_shape = "reshape", self.rules.shapes[shape]
        self.actions.append(self.now)
        replica.become("draining", self.now)
        self.tidy()

    def restart(self, replica: Replica) -> None:
        """A drained replica starts with its next shape."""
        shape, region = replica.next_shape, self.rules.region(replica.pool)
        # reading: it gives its machines back first; where the new shape finds none it goes off, denied
        if self.free_gpus(region, shape.gpu, but=replica) < shape.gpus:
            replica.become("off", self.now)
            self.deny(replica.pool, 1)
            return
        replica.start(shape, self.now, self.rules.starting_s("swap", replica.pool, replica.index))

    def regroup(self, pool: int, indexes: list[int], shapes: list[int], startup_s: float | None) -> None:
        """Replicas drain together; once the last is off, others start on their machines."""
        members = [r for r in self.pool(pool, "starting", "active") if r.index in indexes]
        group = (pool, members, [self.rules.shapes[s] for s in shapes], startup_s)
        if not indexes:
            self.actions += [self.now] * self.succeed(group)
            self.tidy()
        if not members:
            return
        self.groups.append(group)
        for replica in list(members):
            replica.after = "regroup"
            self.actions.append(self.now)
            replica.become("draining", self.now)
        self.tidy()

    def following(self, pool: int, kind: Shape | None = None) -> int:
        here = [shape for p, _, shapes, _ in self.groups if p == pool for shape in shapes]
        return len([shape for shape in here if kind is None or shape is kind])

    def group_of(self, replica: Replica) -> tuple | None:
        return next((g for g in self.groups if replica in g[1]), None)

    def follow(self, replica: Replica) -> None:
        """It is empty, for others."""
        group = self.group_of(replica)
        if any(r.state != "empty" for r in group[1]):
            return
        self.groups.remove(group)
        for member in group[1]:
            member.become("off", self.now)
        self.succeed(group)

    def succeed(self, group: tuple) -> int:
        """What follows starts, where there is room; how many."""
        pool, _, shapes, startup_s = group
        started = 0
        for shape in shapes:
            leaving = [r for r in self.pool(pool, "draining") if r.after == "reshape"]
            more = len(self.pool(pool, "starting", "active")) + len(leaving) + self.following(pool) + 1
            room = self.free_gpus(self.rules.region(pool), shape.gpu) >= shape.gpus
            room = room and not self.is_down(self.rules.region(pool))
            if room and (not self.rules.most or more <= self.rules.most[pool]):
                self.new(pool, shape, "swap", startup_s)
                started += 1
            else:
                self.deny(pool, 1)
        return started

    # faults
    def strike(self, kind: str, a: int, b: float) -> None:
        if kind == "replica":
            replica = self.find(a, int(b))
            if replica is not None:
                self.lose(replica)
            return
        self.down[a] = max(b, self.down.get(a, 0.0))
        here = [r for r in self.replicas if self.rules.region(r.pool) == a]
        for replica in sorted(here, key=lambda r: (r.pool, r.index)):
            self.lose(replica)
        for pool in sorted(self.queues):
            if self.rules.region(pool) == a:
                for request in self.queues.pop(pool):
                    self.again(request)

    def lose(self, replica: Replica) -> None:
        """Gone, in whatever state; its requests start again."""
        if replica.state in ("off", "empty"):
            return
        if replica.plan is not None:
            replica.busy[-1] += self.now - replica.began
        members = [*(r for r in replica.running if not r.ghost), *replica.waiting]
        # reading: a request on its way to another replica goes on, with its KV
        for request in replica.sent:
            request.shared = 0
        replica.running, replica.waiting, replica.sent = [], [], []
        replica.plan, replica.end, replica.segment = None, float("inf"), None
        replica.kv = type(replica.kv)(replica.shape)
        group = self.group_of(replica)
        if group is not None:  # reading: then nothing follows, and what else drains for it may be taken back
            self.groups.remove(group)
            self.deny(replica.pool, len(group[2]))
            for other in group[1]:
                other.after = "off"
                if other.state == "empty":
                    other.become("off", self.now)
        replica.become("off", self.now)
        for request in members:
            self.again(request)

    def again(self, request: Request) -> None:
        raise NotImplementedError

    def activate(self, replica: Replica) -> None:
        raise NotImplementedError
