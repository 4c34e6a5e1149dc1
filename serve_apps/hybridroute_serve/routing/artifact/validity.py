"""Whether an artifact's promise covers a route as it is now. Pure: names and digests in, reasons out.

Drift is not judged here: its alarm comes from `hybridroute_serve.routing.drift`. Neither is the system prompt, which
is a request's own: `hybridroute_serve.routing.guarantee` compares it.
"""

import hashlib
from collections.abc import Collection, Mapping

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.routing.artifact.header import ArtifactHeader

__all__ = ["SYSTEM_PROMPT", "WEIGHTS", "changed_weights", "digest_prompt", "route_models", "void_reasons"]

SYSTEM_PROMPT = "system_prompt"
"""Name under which an artifact keeps the digest of the system prompt that its outcomes were made with."""
WEIGHTS = "slm_weights"
"""Name under which an artifact keeps the digest of the SLM's file; replicas say which they serve."""
_SHOWN_CHARACTERS = 64
_SHOWN_DIGEST = len("sha256:") + 12


def route_models(policy: LivePolicy) -> dict[str, str]:
    """Return what the promise hangs on in a route: the SLM, and the model of the upstream that is tried first."""
    return {"slm": policy.slm.model_name, "llm": policy.llm.primary.model}


def digest_prompt(system_prompt: str) -> str:
    """Return what names a system prompt; white space around it says nothing."""
    return hashlib.sha256(system_prompt.strip().encode("utf-8", "replace")).hexdigest()[:16]


def void_reasons(header: ArtifactHeader, models: Mapping[str, str]) -> tuple[str, ...]:
    """Return why the promise is void for these names or digests of what serves now; empty when it holds.

    What only one side names counts as different: a route that has gained an adapter is another route. An artifact
    without a promise gives the reason why it has none.
    """
    if header.promise is None:
        return (header.promise_note,)
    reasons = []
    for name in sorted((header.models.keys() | models.keys()) - {SYSTEM_PROMPT, WEIGHTS}):
        made, now = header.models.get(name), models.get(name)
        if made != now:
            reasons.append(f"{name} was {_short(made)} when the promise was certified and is {_short(now)}")
    return tuple(reasons)


def changed_weights(header: ArtifactHeader, served: Collection[str]) -> str | None:
    """Return why the weights that replicas serve void the promise; None where they do not, or nothing is known."""
    made = header.models.get(WEIGHTS)
    others = sorted(set(served) - {made})
    if made is None or not others:
        return None
    now = ", ".join(digest[:_SHOWN_DIGEST] for digest in others)
    return f"the slm's weights were {made[:_SHOWN_DIGEST]} when the promise was certified and are {now}"


def _short(digest: str | None) -> str:
    return "absent" if digest is None else digest[:_SHOWN_CHARACTERS]
