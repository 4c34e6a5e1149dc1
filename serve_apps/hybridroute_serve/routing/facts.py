"""What a routing decision knows: facts of the request and the health of the paths. Values, no behaviour."""

import msgspec

from hybridroute_api.vocabulary import PathName

__all__ = ["PathHealth", "RequestFacts"]


class RequestFacts(msgspec.Struct, frozen=True):
    """The few things of a request that routing needs."""

    requested_model: str
    text: str
    """The routing text, see `text.routing_text`."""
    estimated_prompt_tokens: int
    """All messages, tools included. An estimate: too high escalates early, too low lets the SLM refuse."""
    max_output_tokens: int | None = None
    """The client's own cap; None when it set none."""
    images: bool = False
    audio: bool = False
    """Audio in a message, or asked for in the answer."""
    files: bool = False
    web_search: bool = False
    """The answer is to be looked up on the web."""
    tools: bool = False
    """Tools or functions are offered, or an earlier turn used one."""
    json_schema: bool = False
    """The answer must follow a JSON schema."""
    conversation_path: PathName | None = None
    """The path that made the tool call whose result this request carries; None for any other request."""

    local_only: bool = False
    """The client's key is local-only: the request never leaves the SLM."""
    multi_turn: bool = False
    """It is a later turn of a conversation."""
    plain: bool = True
    """A chat that asks for one answer of text."""
    system_prompt: str | None = None
    """Digest of the system prompt, see `artifact.validity`; None without one."""


class PathHealth(msgspec.Struct, frozen=True):
    """What the router believes of the paths at this moment."""

    slm_up: bool = True
    slm_failing: bool = False
    """It is up by its ingress, but its last answers were failures: what may go elsewhere does."""
    slm_full: bool = False
    """Every replica is at its admission limit; said of an SLM that is up."""
    slm_restarting: bool = False
    """Not up, but only since a moment ago: a request that may not go elsewhere is worth holding."""
    llm_up: bool = True
    llm_restarting: bool = False
    slm_detail: str = "down"
    """Why the SLM is not up, in a few words for the reason: `no ready replica`."""
    llm_detail: str = "down"
