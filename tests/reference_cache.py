"""The KV blocks of one replica: private ones, and whole hash blocks of prompts that requests share."""

from dataclasses import dataclass, field

from reference_model import Request, Shape


@dataclass
class Cached:
    """One hash block that is present."""

    hash: int
    users: list[Request] = field(default_factory=list)
    let_go: int = -1  # the departure that left it without users
    depth: int = 0  # its place in the prefix of the request that let it go


class Blocks:
    def __init__(self, shape: Shape):
        assert shape.hash_tokens % shape.block == 0
        self.shape = shape
        self.total = shape.blocks
        self.per = shape.hash_tokens // shape.block  # KV blocks of a hash block
        self.private: dict[Request, int] = {}
        self.present: dict[int, Cached] = {}
        self.used = 0  # blocks that requests hold
        self.departures = 0

    def of(self, tokens: int) -> int:
        return -(-tokens // self.shape.block)

    @property
    def free(self) -> int:
        return self.total - self.used

    def evictable(self) -> int:
        return self.per * sum(1 for c in self.present.values() if not c.users)

    def take(self, request: Request, blocks: int) -> None:
        """A plan's blocks; evicts where they need room."""
        # reading: blocks are evicted as each request's take is planned, so a later head of the same plan misses them
        self.private[request] = self.private.get(request, 0) + blocks
        self.used += blocks
        while self.present and self.used + self.evictable() > self.total:
            victim = min((c for c in self.present.values() if not c.users), key=lambda c: (c.let_go, -c.depth))
            del self.present[victim.hash]

    def hit(self, request: Request) -> int:
        """Leading hash blocks that are present."""
        if not self.per:
            return 0
        most = (request.input - 1) // self.shape.hash_tokens
        count = 0
        for h in request.hashes[:most]:
            if h not in self.present:
                break
            count += 1
        return count

    def pin(self, request: Request, hit: int) -> None:
        for h in request.hashes[:hit]:
            self._use(self.present[h], request)
        request.shared = hit

    def unpin(self, request: Request) -> None:
        """As if it had never been pinned: the order of eviction is the old one."""
        for h in request.hashes[: request.shared]:
            self._unuse(self.present[h], request)
        request.shared = 0

    def _use(self, cached: Cached, request: Request) -> None:
        if not cached.users:
            self.used += self.per
        cached.users.append(request)

    def _unuse(self, cached: Cached, request: Request) -> None:
        cached.users.remove(request)
        if not cached.users:
            self.used -= self.per

    def enter(self, request: Request) -> None:
        """The whole hash blocks of prompt it has computed become present and shared."""
        if not self.per:
            return
        whole = min(request.computed, request.input) // self.shape.hash_tokens
        for h in request.hashes[request.shared : whole]:
            self.private[request] -= self.per  # its own copy becomes the shared one, or is freed
            self.used -= self.per
            self._use(self.present.setdefault(h, Cached(h)), request)
            request.shared += 1

    def leave(self, request: Request) -> None:
        """It lets go of everything."""
        self.departures += 1
        for depth, h in enumerate(request.hashes[: request.shared]):
            cached = self.present[h]
            self._unuse(cached, request)
            cached.let_go, cached.depth = self.departures, depth
        request.shared = 0
        self.used -= self.private.pop(request)

    def rename(self, old: Request, new: Request) -> None:
        self.private[new] = self.private.pop(old)
        for cached in self.present.values():
            cached.users = [new if r is old else r for r in cached.users]

    def check(self, tokens: dict[Request, int]) -> None:
        """`tokens`: what each holder holds blocks for."""
        assert self.private.keys() == tokens.keys(), "KV: blocks held by a request that is not here"
        for request, n in tokens.items():
            assert self.private[request] == self.of(n) - request.shared * self.per, f"KV: request {request.number}"
        unique = sum(self.per for c in self.present.values() if c.users)
        private = sum(self.private.values())
        assert self.used == private + unique, f"KV: used({self.used}) != private({private}) + shared({unique})"
        occupied = self.used + self.evictable()
        assert occupied <= self.total, f"KV: {occupied} of {self.total} blocks"
        wanted = sorted((h, r.number) for r in tokens for h in r.hashes[: r.shared])
        assert wanted == sorted((c.hash, r.number) for c in self.present.values() for r in c.users), "KV: users"
