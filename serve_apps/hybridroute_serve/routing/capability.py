"""Which requests the SLM's engine cannot serve at all, whatever the scores say. Pure."""

from hybridroute_api.serving import SlmPolicy
from hybridroute_serve.routing.facts import RequestFacts

__all__ = ["ESTIMATE_MARGIN_PERCENT", "MIN_ANSWER_TOKENS", "incapability"]

ESTIMATE_MARGIN_PERCENT = 25
"""Added to the estimated prompt: code has 3 characters a token where the estimate takes 4. A prompt that is
escalated too early costs cents; one that is kept by mistake is an error for the client.
"""

MIN_ANSWER_TOKENS = 128
"""Room that a request without a cap of its own needs for its answer."""


def incapability(request: RequestFacts, slm: SlmPolicy) -> str | None:
    """Return why the SLM cannot serve the request, in a few words with numbers, or None when it can."""
    if request.images:
        return "images are not read by the slm"
    if request.audio:
        return "audio is not served by the slm"
    if request.files:
        return "files are not read by the slm"
    if request.web_search:
        return "web search is not served by the slm"
    if request.tools and not slm.tools:
        return "tools are not served by the slm"
    if request.json_schema and not slm.json_schema:
        return "a json schema is not served by the slm"
    prompt = request.estimated_prompt_tokens * (100 + ESTIMATE_MARGIN_PERCENT) // 100
    answer = MIN_ANSWER_TOKENS if request.max_output_tokens is None else request.max_output_tokens
    if prompt + answer > slm.context_tokens:
        return f"up to {prompt} prompt + {answer} answer tokens > {slm.context_tokens} of context"
    return None
