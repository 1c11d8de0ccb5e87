"""GPUs of every region: how many are occupied, and whether one more replica finds some."""

from .world import World


class Machines:
    """What replicas occupy, by region and GPU type, within the fleet's inventory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.taken: dict[tuple[str, str | None], int] = {}  # (region, GPU type) -> GPUs
        self.given_back_s = 0.0  # sum of (time off - time on) x GPUs: with `taken` at t added, GPU-seconds occupied

    def key(self, pool: int, profile: int) -> tuple[str, str | None]:
        """(region, GPU type) of a replica."""
        return self.world.fleet.pools[pool].region, self.world.profiles[profile].gpu

    def occupy(self, pool: int, profile: int, t: float) -> None:
        """A replica takes its GPUs at t."""
        self._count(pool, profile, 1, t)

    def vacate(self, pool: int, profile: int, t: float) -> None:
        """A replica gives its GPUs back at t."""
        self._count(pool, profile, -1, t)

    def has_room(self, pool: int, profile: int, spared: int = 0) -> bool:
        """Whether one more replica finds machines, `spared` GPUs being vacated for it."""
        region, gpu = self.key(pool, profile)
        if region not in self.world.fleet.inventory:
            return True
        have = self.world.fleet.inventory[region].get(gpu or "", 0)
        return self.taken.get((region, gpu), 0) - spared + self.world.profiles[profile].gpus_per_replica <= have

    def _count(self, pool: int, profile: int, sign: int, t: float) -> None:
        key, gpus = self.key(pool, profile), sign * self.world.profiles[profile].gpus_per_replica
        self.taken[key] = self.taken.get(key, 0) + gpus
        self.given_back_s -= gpus * t
