"""What a routing decision must know of a parsed request. Pure."""

from hybridroute_api.vocabulary import PathName
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.text import routing_text
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["request_facts"]


def request_facts(
    parsed: ParsedRequest, conversation_path: PathName | None, *, local_only: bool
) -> RequestFacts:
    """Return the facts. `conversation_path`: where the tool call was made whose result this request carries."""
    parts = parsed.non_text_parts
    return RequestFacts(
        requested_model=parsed.model,
        text=routing_text(parsed.routing_text),
        estimated_prompt_tokens=parsed.estimated_prompt_tokens,
        max_output_tokens=parsed.max_output_tokens,
        images="image_url" in parts,
        audio="input_audio" in parts or parsed.audio_answer,
        files=bool(parts - {"image_url", "input_audio"}),
        web_search=parsed.web_search,
        tools=parsed.offers_tools or parsed.has_tool_results,
        json_schema=parsed.response_format == "json_schema",
        conversation_path=conversation_path,
        local_only=local_only,
    )
