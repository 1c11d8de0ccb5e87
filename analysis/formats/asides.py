"""Why a row may be set aside that is no request at all: nothing is wrong with it, or with its source."""

NO_REQUESTS = frozenset(
    {
        "answered from LiteLLM's own cache",
        "benchmark without requests",
        "call that generates no text",
        "event of a tool, no request",
        "event that ends no request",
        "instant without requests",
        "no model and no tokens: no LLM call",
        "no spans",
        "observation that is no generation",
        "span of no LLM call",
        "sub-agent without requests",
        "summary of a run, no request",
        "warm-up request, not measured",
    }
)
