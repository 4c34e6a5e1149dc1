"""Model names that clients may ask for: the route decides, or one path or the SLM's adapter is forced. Pure."""

from dataclasses import dataclass
from functools import lru_cache

from hybridroute_api.vocabulary import Mode, PathName

__all__ = ["DECIDE_MODEL", "ModelChoice", "UnknownModelError", "resolve_model", "served_models"]

DECIDE_MODEL = "hybridroute"
"""The name that every route answers to; the route's own name means the same."""


class UnknownModelError(ValueError):
    """The name is not served by this route, or not in its present mode. The message is for the client."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What a model name asks for."""

    path: PathName | None
    """The forced path; None lets the route decide."""


@lru_cache
def served_models(route: str, mode: Mode, adapters: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names that this route serves in this mode, the deciding ones first, the SLM's adapters last."""
    forced = {Mode.LOCAL_ONLY: (PathName.SLM,), Mode.LLM_ONLY: (PathName.LLM,)}.get(mode, tuple(PathName))
    beside = adapters if PathName.SLM in forced else ()
    return tuple(dict.fromkeys((DECIDE_MODEL, route, *(path.value for path in forced), *beside)))


def resolve_model(requested: str, route: str, mode: Mode, adapters: tuple[str, ...] = ()) -> ModelChoice:
    """Return what a model name asks for. `slm` and `llm` force a path, even on a route of that name.

    An adapter's name forces the SLM, unless it is the route's own name.

    Raises `UnknownModelError` for any other name than the served ones, and for a path that the mode forbids.
    """
    served = served_models(route, mode, adapters)
    if requested not in served:
        known = (*PathName, *adapters)
        why = f" while its mode is {mode.value}" if requested in known else ""
        raise UnknownModelError(
            f"model {_shown(requested)} is not served by route {route!r}{why}; use one of {', '.join(served)}"
        )
    if requested in tuple(PathName):
        return ModelChoice(PathName(requested))
    is_adapter = requested in adapters and requested not in (DECIDE_MODEL, route)
    return ModelChoice(PathName.SLM if is_adapter else None)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:61] + "...")
