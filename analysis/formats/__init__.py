"""Every way a trace is written down: how it is recognised, and how its columns become the trace table.

A new format is one file with one small class (`base.Format`) and one line here; outsiders use the entry-point group.
"""

from lmaas.analysis.registry import Registry

FORMATS = Registry(
    "trace format",
    group="lmaas.formats",
    builtin={
        "azure": "lmaas.analysis.formats.azure:Azure",
        "aibrix": "lmaas.analysis.formats.aibrix:AiBrix",
        "bailian": "lmaas.analysis.formats.bailian:Bailian",
        "baseten": "lmaas.analysis.formats.baseten:Baseten",
        "burstgpt": "lmaas.analysis.formats.burstgpt:BurstGpt",
        "splitwise": "lmaas.analysis.formats.splitwise:Splitwise",
        "sageserve": "lmaas.analysis.formats.splitwise:SageServe",
        "vidur": "lmaas.analysis.formats.vidur:Vidur",
        "weka": "lmaas.analysis.formats.weka:Weka",
        "mooncake": "lmaas.analysis.formats.mooncake:Mooncake",
        "dynamo": "lmaas.analysis.formats.dynamo:Dynamo",
        "otlp": "lmaas.analysis.formats.otlp:Otlp",
        "otel-flat": "lmaas.analysis.formats.otlp:OtelFlat",
        "litellm": "lmaas.analysis.formats.litellm:LiteLlm",
        "envoy": "lmaas.analysis.formats.envoy:Envoy",
        "langfuse": "lmaas.analysis.formats.langfuse:Langfuse",
        "openrouter": "lmaas.analysis.formats.openrouter:OpenRouter",
        "openrouter-activity": "lmaas.analysis.formats.openrouter:OpenRouterActivity",
        "aiperf": "lmaas.analysis.formats.aiperf:AiPerf",
        "vllm-bench": "lmaas.analysis.formats.vllm_bench:VllmBench",
        "guidellm": "lmaas.analysis.formats.guidellm:GuideLlm",
        "inference-perf": "lmaas.analysis.formats.inference_perf:InferencePerf",
        "vllm-requests": "lmaas.analysis.formats.vllm_requests:VllmRequests",
        "genai-perf": "lmaas.analysis.formats.genai_perf:GenAiPerf",
        "multi-round-qa": "lmaas.analysis.formats.multi_round_qa:MultiRoundQa",
        "canonical": "lmaas.analysis.formats.canonical:Canonical",
    },
)
