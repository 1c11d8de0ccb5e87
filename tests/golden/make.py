"""Write the golden cases: `.venv/bin/python tests/golden/make.py`, only where the replica's rules change."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from cases import ROUTERS, expected, play_slow  # noqa: E402
from test_kernel import pressed  # noqa: E402


def tied(router: str) -> dict:
    """Whole seconds everywhere: arrivals, ticks and iterations end together."""
    latency = {
        "base": 1.0, "token_knots": [0], "token_slopes": [0.25], "attn_pair": 0.0625, "prefix_kv": 0.125,
        "decode_seq": 0.25, "decode_kv": 0.0625,
    }  # fmt: skip
    shape = {"latency": latency, "kv_tokens": 24, "block": 2, "max_batch_tokens": 6, "max_seqs": 3}
    requests = [[float(k // 3), k % 2, 1 + k % 7, 1 + (5 * k) % 6, 1 + (3 * k) % 8, k % 2] for k in range(36)]
    ticks = {4.0: [3, 1], 8.0: [1, 2], 9.0: [2, 2]}
    return {
        "shapes": [shape, shape],
        "requests": requests,
        "counts": [2, 1],
        "ticks": ticks,
        "startup": 3.0,
        "router": router,
    }


for name, case in {
    **{f"tied-{router}": tied(router) for router in ROUTERS},
    **{f"pressed-{ROUTERS[seed % 4]}": pressed(seed, n=60) for seed in range(4)},
}.items():
    rows, _ = play_slow(case)
    text = json.dumps({"case": case, "expected": expected(rows)}, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
