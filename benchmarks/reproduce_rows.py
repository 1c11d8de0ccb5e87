"""What benchmarks/reproduce.py compares: settings, and a table of rows with the papers' figures."""

from dataclasses import dataclass, replace

# LLaMA-2-7B on one A100: the engine of Llama-3.1-8B with the KV cache of PreServe's instances (16 x 2,306 tokens), four
# times the KV a token (32 heads of keys and values for 8) and at most 128 requests at once
LLAMA_2_7B = ("llama-3.1-8b/a100/tp1", (("kv_tokens", 36_896), ("max_seqs", 128)), 4.0)
SMALL_70B = ("llama-3.1-70b/a100/tp4", (("max_seqs", 2),), 1.0)  # pools of several replicas on little load
PRESERVE_SLO = ("ttft<2s", "tpot<100ms", "e2e<80s")


@dataclass(frozen=True)
class Setting:
    """A trace with the fleet it is replayed on.

    profile: a shipped one, what is changed in it, and what its decode_kv is multiplied by; None: the defaults. cold_s:
    start-up; None: the profile's. window_s None: the default. fleet: a fleet file's text, one of FLEETS. each_tier:
    what is attained is the least of the tiers' shares, as where a percentile is asked of each; else that of all
    requests. train: share of the trace's time before the replay.
    """

    trace: str
    profile: tuple[str, tuple[tuple[str, int], ...], float] | None = None
    load: float = 1.0
    slo: tuple[str, ...] = ()
    window_s: float | None = None
    cold_s: float | None = None
    attain: float = 0.99
    fleet: str | None = None
    each_tier: bool = False
    train: float = 0.5


LANES = """
kv_bandwidth_gb_s: 50
pools:
  - {service: default, lane: prefill}
  - {service: default, lane: decode}
"""
# what SageServe's simulator takes for a start: 65 s for a lent replica of the same model, 155 s for any other
SAGE_STARTS = "".join(
    f"  {name}: {{startup_s: {{cold: 155, warm: 65, swap: 155}}}}\n" for name in ("chat-8b", "rag-32b", "agent-70b")
)
WITH_KV = (LLAMA_2_7B[0], (*LLAMA_2_7B[1], ("kv_bytes_per_token", 524_288)), LLAMA_2_7B[2])


# SageServe's SLAs, P95 in each tier; 48 h that end, as they begin, when the night has emptied the queues
SAGE_SLO = ("ttft<1s @ tier=interactive-fast", "ttft<60s @ tier=interactive-normal", "e2e<24h @ tier=batch")
TWO_DAYS = ("sample, 82 h", (82 - 48) / 82)


def starting(startup_s: float) -> str:
    """A fleet file: machines are free, and every start on the sample's services takes this long."""
    services = ("agent-70b", "rag-32b", "chat-8b")
    return "services:" + "".join(f"\n  {name}: {{startup_s: {startup_s:g}}}" for name in services)


FLEETS = {"prefill and decode lanes, 50 GB/s": LANES} | {f"starts of {s} s": starting(s) for s in (10, 60, 600)}

# an hour of Azure 2023 stands for a day at PreServe's time compression of 24: windows of 10 min are 25 s there, cold
# starts of 8 and 12 min 20 and 30 s
SETTINGS = {
    "conversations": Setting("azure-conv", LLAMA_2_7B, 6.0, PRESERVE_SLO, 25.0, 30.0),
    "code": Setting("azure-code", LLAMA_2_7B, 6.0, PRESERVE_SLO, 25.0, 20.0, 0.95),
    "split": Setting("azure-conv", WITH_KV, 6.0, PRESERVE_SLO, 25.0, 30.0, fleet=LANES),
    "split, tight": Setting("azure-conv", WITH_KV, 6.0, ("ttft<2s", "tpot<50ms", "e2e<80s"), 25.0, 30.0, fleet=LANES),
    "split, code": Setting("azure-code", WITH_KV, 6.0, PRESERVE_SLO, 25.0, 20.0, 0.95, fleet=LANES),
    "sample": Setting("sample"),
    "sample, busy": Setting(
        TWO_DAYS[0], None, 2.0, SAGE_SLO, attain=0.95, fleet=FLEETS["starts of 60 s"], each_tier=True, train=TWO_DAYS[1]
    ),
    "fortnight": Setting("fortnight", SMALL_70B, load=2.0, window_s=600.0, cold_s=120.0, attain=0.95),
}


@dataclass(frozen=True)
class Row:
    """A policy against others at the same attainment, each tuned; measures: keys of reproduce.MEASURES."""

    paper: str
    setting: str
    policy: str
    against: tuple[str, ...]
    measures: tuple[str, ...] = ("GPU-hours",)
    figure: str = "–"


# kv-thresholds is PreServe's Reactive, by the artifact's thresholds for its two traces, and scaling in earlier
INDUSTRY = (
    "static-peak", "last-value", "hpa", "keda", "knative", "ray-serve", "llumnix", "aibrix-apa", "aibrix-kpa", "wva",
    "wva(down_boundary=0.9)", "dynamo", "kv-thresholds(high=0.92, low=0.1)", "kv-thresholds(high=0.9, low=0.2)",
    "kv-thresholds(high=0.9, low=0.4)", "chiron", "tokenscale",
)  # fmt: skip
BOUNDS = ("zero-cold-start", "oracle", "perfect-system")
PRESERVES = ("preserve", "preserve(scale_in=0)", "preserve(tier2=false)", "preserve-artifact")
GAINS = "v2: tail -41.3 %, resources -49.38 %; v1: -45.9 %, -44.5 %"
SAGE = ("sageserve-lt-i", "sageserve-lt-u", "sageserve-lt-ua")
SILOS = ("sageserve-siloed", "sageserve-reactive")
CHIRON = "chiron(control_s=60)"  # its look at every request costs most of a replay; every 10 s: 1.4 % more GPU-hours
SAVES = (
    "GPU-hours -25 %, waste -80 %, up to $2 M a month; P90 TTFT, E2E: Reactive 18.7, 71.2 s, LT-I 119.3, 266.5 s, LT-U "
    "14.6, 68.1 s, LT-UA 16.9, 69.7 s"
)

# Aladdin's: a constant number of workers behind the shortest queue, two choices, or in turn
CONSTANT = ("static-peak", "static-peak(router=power-of-two)", "static-peak(router=round-robin)")
PACKS = "up to -71 % GPUs against the default number of workers with the shortest queue"
DECODES = "decode instances -60 % against the shortest queue, -49 % against power of two"

ROWS = (
    *(
        Row("PreServe", setting, policy, (*INDUSTRY, "preserve-hybrid", *BOUNDS), ("GPU-hours", "tail"), GAINS)
        for setting in ("conversations", "code")
        for policy in PRESERVES
    ),
    *(
        Row("PreServe", "sample", policy, ("static-peak", "last-value", "hpa", "wva", *BOUNDS), figure=GAINS)
        for policy in PRESERVES
    ),
    *(
        Row("PreServe", "fortnight", name, ("static-peak", "last-value", "hpa", "oracle"), ("GPU-hours", "tail"), GAINS)
        for name in ("preserve", "preserve(scale_in=0)", "preserve(tier2=false)")
    ),
    Row(
        "Aladdin", "conversations", "aladdin",
        (*CONSTANT, "last-value", "hpa", "preserve(scale_in=0)", *BOUNDS), ("GPU-hours", "tail"), PACKS,
    ),
    Row("Aladdin", "sample", "aladdin", (*CONSTANT, "last-value", "hpa", "oracle"), figure=PACKS),
    Row("Aladdin", "split", "aladdin", (*CONSTANT, "last-value", "hpa", "oracle"), ("GPU-hours", "decode"), DECODES),
    *(
        Row("Aladdin", setting, "aladdin", CONSTANT[:1], ("GPU-hours", "decode"), DECODES)
        for setting in ("split, tight", "split, code")
    ),
    *(
        Row("SageServe", "sample", policy, SILOS, ("GPU-hours", "waste", "latency", "dollars"), SAVES)
        for policy in SAGE
    ),
    *(
        Row("SageServe", "sample, busy", policy, (*SILOS, CHIRON), ("GPU-hours", "waste", "dollars"), SAVES)
        for policy in SAGE
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Ablation:
    """Policies and settings that differ in one thing, each tuned to the same attainment; the first is the base.

    of: the setting that is changed, with which it is played.
    """

    name: str
    cases: tuple[tuple[str, str, Setting], ...]  # label, policy, setting
    paper: str = "PreServe"
    of: str = "conversations"


def _of(label: str, policy: str, setting: str = "conversations", **changes: float | str) -> tuple[str, str, Setting]:
    return label, policy, replace(SETTINGS[setting], **changes)  # type: ignore[arg-type]


ERRORS = (0.0, 0.05, 0.0617, 0.1, 0.2, 0.3, 0.5)
LENGTH_ERROR = 0.39  # of conversations' answers a mean absolute error of 78 tokens: PreServe publishes 78.25
ABLATIONS = (
    Ablation(
        "PreServe by its parts",
        (
            _of("Tier-2 never scales in", "preserve(scale_in=0)"),
            _of("as it is", "preserve"),
            _of("Tier-1 alone", "preserve(tier2=false)"),
            _of("Tier-1 alone, least requests", "preserve(tier2=false, router=least-requests)"),
            _of("Tier-2 alone", "preserve(tier1=false)"),
            _of("Tier-2 alone, never scales in", "preserve(tier1=false, scale_in=0)"),
            _of("the artifact's router alone, a constant fleet", "static-peak(router=preserve)"),
            _of("the anticipating router alone", "static-peak(router=preserve-anticipated)"),
            _of("least requests alone", "static-peak"),
            _of("the artifact's form", "preserve-artifact"),
            _of("router of least requests", "preserve(scale_in=0, router=least-requests)"),
            _of("router of round robin", "preserve(scale_in=0, router=round-robin)"),
            _of("router on the anticipated load", "preserve(scale_in=0, router=preserve-anticipated)"),
            _of("last window for the forecast", "preserve(scale_in=0, forecaster=last-value)"),
            _of("true demand", "preserve(scale_in=0, forecaster=truth)"),
            _of("median for the length predictor", "preserve(scale_in=0, lengths=median)"),
            _of("true lengths", "preserve(scale_in=0, lengths=true)"),
        ),
    ),
    Ablation(
        "PreServe on code: its parts, whose word, and windows",
        (
            _of("Tier-2 never scales in", "preserve(scale_in=0)", "code"),
            _of("as it is", "preserve", "code"),
            _of("Tier-1 alone", "preserve(tier2=false)", "code"),
            _of("Tier-1 alone, true demand", "preserve(tier2=false, forecaster=truth)", "code"),
            _of("Tier-2 alone, never scales in", "preserve(tier1=false, scale_in=0)", "code"),
            _of("true demand", "preserve(scale_in=0, forecaster=truth)", "code"),
            _of("true demand and lengths", "preserve(scale_in=0, forecaster=truth, lengths=true)", "code"),
            _of("true demand, windows of 5 s", "preserve(scale_in=0, forecaster=truth)", "code", window_s=5.0),
            _of("as it is, true demand", "preserve(forecaster=truth)", "code"),
            _of("as it is, true demand, windows of 5 s", "preserve(forecaster=truth)", "code", window_s=5.0),
            _of("windows of 100 s", "preserve(scale_in=0)", "code", window_s=100.0),
            _of("windows of 300 s", "preserve(scale_in=0)", "code", window_s=300.0),
            _of("cold start 5 s", "preserve(scale_in=0)", "code", cold_s=5.0),
        ),
        of="code",
    ),
    *(
        Ablation(
            f"Cold start, {policy}",
            tuple(_of(f"{s:g} s", policy, cold_s=float(s)) for s in (10, 30, 60, 120, 300, 600)),
        )
        for policy in ("preserve(scale_in=0)", "hpa")
    ),
    Ablation(
        "Lead, preserve(scale_in=0)",
        (
            _of("a cold start, 30 s: three windows ahead", "preserve(scale_in=0)"),
            _of("25 s: two windows ahead, the paper's", "preserve(scale_in=0, lead_s=25)"),
            _of("50 s: two windows before it begins", "preserve(scale_in=0, lead_s=50)"),
        ),
    ),
    Ablation(
        "Error of demand, preserve(scale_in=0)",
        tuple(_of(f"{100 * e:g}%", f"preserve(scale_in=0, forecaster=truth, demand_error={e:g})") for e in ERRORS),
    ),
    Ablation(
        "Error of lengths, preserve(scale_in=0)",
        tuple(
            _of(f"{100 * e:g}%{said}", f"preserve(scale_in=0, lengths=true, length_error={e:g})")
            for e, said in (*((e, "") for e in ERRORS[:-1]), (LENGTH_ERROR, ": PreServe's MAE"), (ERRORS[-1], ""))
        ),
    ),
    Ablation(
        "Aladdin by its parts",
        (
            _of("as it is", "aladdin"),
            _of("placement alone opens workers", "aladdin(ahead=false)"),
            _of("fleet relation alone, least requests", "aladdin(router=least-requests)"),
            _of("no rebalancing", "aladdin(rebalance=false)"),
            _of("empty workers stay for 30 s", "aladdin(linger_s=30)"),
            _of("relation at its mean", "aladdin(cover=0.5)"),
            _of("whole answers count (gamma 1)", "aladdin(gamma=1)"),
            _of("median for the length predictor", "aladdin(lengths=median)"),
            _of("trees for the length predictor", "aladdin(lengths=trees)"),
            _of("true lengths", "aladdin(lengths=true)"),
            _of("true demand", "aladdin(forecaster=truth)"),
        ),
        "Aladdin",
    ),
    Ablation(
        "Aladdin's constraints",
        (
            _of("(a) to (d)", "aladdin"),
            _of("without (c)", "aladdin(no_harm=false)"),
            _of("without (a)", "aladdin(theta_ttft=1000)"),
            _of("without (b)", "aladdin(theta_atgt=1000)"),
            _of("(d) alone", "aladdin(theta_ttft=1000, theta_atgt=1000, no_harm=false)"),
        ),
        "Aladdin",
    ),
    Ablation(
        "SageServe by its strategies",
        (
            *(_of(name, name, "sample") for name in ("sageserve-siloed", "sageserve-reactive", *SAGE)),
            _of("the plan without a look at utilisation", "sageserve-lt-u(by_utilisation=false)", "sample"),
        ),
        "SageServe",
        "sample",
    ),
    Ablation(
        "SageServe by its strategies, its simulator's start-up times",
        tuple(
            _of(name, name, "sample", fleet=f"services:\n{SAGE_STARTS}")
            for name in ("sageserve-siloed", "sageserve-reactive", *SAGE)
        ),
        "SageServe",
        "sample",
    ),
)
PAPERS = tuple(dict.fromkeys(row.paper for row in ROWS))
