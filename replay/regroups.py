"""Replicas that give way together: they drain, and others start on their machines once the last of them is empty."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Group:
    """Replicas of one pool that drain, and what follows them."""

    pool: int
    profiles: tuple[int, ...]  # rows of the replay's profiles, in the order they start
    lasts_s: float | None  # how long they start; None: drawn, as after a model swap
    left: set[int] = field(default_factory=set)  # records that drain
    empty: list[int] = field(default_factory=list)  # records that have drained and keep their machines for the others


class Regroups:
    """The groups that have not ended, by the records that drain."""

    def __init__(self) -> None:
        self.of: dict[int, Group] = {}

    def __contains__(self, record: int) -> bool:
        return record in self.of

    def begin(self, group: Group, records: Iterable[int]) -> None:
        """These drain."""
        for record in records:
            group.left.add(record)
            self.of[record] = group

    def ended(self, record: int) -> Group | None:
        """The record has drained: its group, of which others may be left."""
        group = self.of.pop(record, None)
        if group is not None:
            group.left.discard(record)
            group.empty.append(record)
        return group

    def given_up(self, record: int) -> Group | None:
        """The record was lost: its group, of which nothing follows; what else drains of it does so for itself."""
        group = self.of.get(record)
        for other in group.left if group else ():
            del self.of[other]
        return group

    def kept(self) -> list[int]:
        """Records that have drained and keep their machines until their groups have."""
        return [record for group in set(self.of.values()) for record in group.empty]

    def coming(self, pool: int, profile: int | None = None) -> int:
        """Replicas of the pool that are to follow; of the profile, where one is named."""
        here = [group for group in set(self.of.values()) if group.pool == pool]
        return sum(profile in (None, other) for group in here for other in group.profiles)
