"""What a routing decision must know of a parsed request. Pure."""

from hybridroute_api.vocabulary import Api, PathName
from hybridroute_serve.routing.artifact.validity import digest_prompt
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.text import routing_text
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["request_facts"]

_SYSTEM_ROLES = frozenset({"system", "developer"})


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
        multi_turn=_is_multi_turn(parsed),
        plain=parsed.api is Api.CHAT_COMPLETIONS
        and parsed.choices == 1
        and parsed.response_format in (None, "text"),
        system_prompt=_system_prompt(parsed),
    )


def _is_multi_turn(parsed: ParsedRequest) -> bool:
    roles = [message.role for message in parsed.messages]
    return "assistant" in roles or roles.count("user") > 1


def _system_prompt(parsed: ParsedRequest) -> str | None:
    texts = [message.text for message in parsed.messages if message.role in _SYSTEM_ROLES]
    return digest_prompt("\n".join(texts)) if texts else None
