"""Every policy that ships, in one table, and how users write one: `preserve`, `static(replicas=3)`."""

from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Any

from lmaas.analysis.calls import check_parameters, parse_call
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.registry import Registry
from lmaas.replay.routernames import short_name

POLICIES = Registry(
    "policy",
    group="lmaas.policies",
    builtin={
        "static": "lmaas.policies.static:Static",
        "current": "lmaas.policies.static:Current",
        "static-peak": "lmaas.policies.static:StaticPeak",
        "static-mean": "lmaas.policies.static:StaticMean",
        "hpa": "lmaas.policies.autoscalers.hpa:Hpa",
        "keda": "lmaas.policies.autoscalers.keda:Keda",
        "knative": "lmaas.policies.autoscalers.knative:Knative",
        "ray-serve": "lmaas.policies.autoscalers.ray_serve:RayServe",
        "llumnix": "lmaas.policies.autoscalers.llumnix:Llumnix",
        "aibrix-apa": "lmaas.policies.autoscalers.aibrix:AibrixApa",
        "aibrix-kpa": "lmaas.policies.autoscalers.aibrix:AibrixKpa",
        "wva": "lmaas.policies.autoscalers.wva:Wva",
        "dynamo": "lmaas.policies.autoscalers.dynamo:DynamoPlanner",
        "kv-thresholds": "lmaas.policies.autoscalers.kv_thresholds:KvThresholds",
        "chiron": "lmaas.policies.autoscalers.chiron:Chiron",
        "tokenscale": "lmaas.policies.autoscalers.tokenscale:TokenScale",
        "last-value": "lmaas.policies.last_value:LastValue",
        "preserve": "lmaas.policies.preserve:PreServe",
        "preserve-artifact": "lmaas.policies.preserve_artifact:PreServeArtifact",
        "preserve-hybrid": "lmaas.policies.preserve_hybrid:PreServeHybrid",
        "sageserve-lt-i": "lmaas.policies.sageserve.strategies:LtI",
        "sageserve-lt-u": "lmaas.policies.sageserve.strategies:LtU",
        "sageserve-lt-ua": "lmaas.policies.sageserve.strategies:LtUA",
        "sageserve-reactive": "lmaas.policies.sageserve.reactive:Reactive",
        "oserve": "lmaas.policies.oserve.policy:OServe",
        "sageserve-siloed": "lmaas.policies.sageserve.reactive:Siloed",
        "aladdin": "lmaas.policies.aladdin.policy:Aladdin",
        "homogeneous": "lmaas.policies.oserve.homogeneous:Homogeneous",
        "melange": "lmaas.policies.melange.policy:Melange",
        "oracle": "lmaas.policies.oracle:Oracle",
        "perfect-system": "lmaas.policies.bounds:PerfectSystem",
        "zero-cold-start": "lmaas.policies.bounds:ZeroColdStart",
    },
    listing="lmaas policies list",
)


@dataclass(frozen=True)
class Named:
    """A policy under the name it was asked for, with the router it runs with."""

    name: str
    policy: Any
    router: str


FLAG, WORD = (bool, "bool"), (str, "str")  # as modules with postponed annotations have them, too
NUMBER = (float, int, float | None, int | None, "float", "int", "float | None", "int | None")


def check_kind(field: "Field[Any]", value: Any, text: str) -> None:
    """UserError (exit 2) where a parameter is declared a number, a flag or a word and the value is none.

    Values of a declared number reach a policy's own checks as numbers: nan and inf, unquoted, are words here.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None and field.default is None:
        return
    if field.type in NUMBER and not number:
        such = f", such as {field.default:g}" if isinstance(field.default, (int, float)) else ""
        wanted = f"a number{such}"
    elif field.type in FLAG and not isinstance(value, bool):
        wanted = "true or false"
    elif field.type in WORD and not isinstance(value, str):
        wanted = "a name" + (f", such as {field.default}" if isinstance(field.default, str) else "")
    else:
        return
    shown_value = "none" if value is None else value if isinstance(value, str) else repr(value)
    raise UserError(f"policy '{text}': {field.name} is {shown_value}; {wanted}", Exit.USAGE)


def parse_policy(text: str, router: str | None = None) -> Named:
    """`name` or `name(parameter=value, ...)`; UserError (exit 2) naming what is wrong and what would work."""
    name, given = parse_call(text, "policy")
    kind = POLICIES.load(name)
    known = [f.name for f in fields(kind)]
    check_parameters(given, known, f"policy '{name}'")
    flags = {f.name for f in fields(kind) if f.type in FLAG}  # elsewhere true is a word: lengths=true
    given |= {name_: value == "true" for name_, value in given.items() if name_ in flags and value in ("true", "false")}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [name_ for name_ in needed if name_ not in given]:
        raise UserError(f"policy '{name}' needs {', '.join(lacking)}; write {name}({lacking[0]}=3)", Exit.USAGE)

    def check_kinds() -> None:
        for field in fields(kind):
            if field.name in given:
                check_kind(field, given[field.name], text)

    try:
        policy = kind(**given)  # its own checks know best what would work
    except (ValueError, OverflowError) as error:
        raise UserError(f"policy '{text}': {error}", Exit.USAGE) from None
    except TypeError as error:
        check_kinds()
        raise UserError(f"policy '{text}': {error}", Exit.USAGE) from None
    check_kinds()
    if router is not None:
        policy = replace(policy, router=router)
    label = text.strip() if router is None else f"{text.strip()}+{short_name(router)}"
    return Named(label, policy, policy.router)
