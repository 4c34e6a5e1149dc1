"""Model names that clients may ask for: the route decides, or one path is forced. Pure."""

from dataclasses import dataclass

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


def served_models(route: str, mode: Mode) -> tuple[str, ...]:
    """Return the names that this route serves in this mode, the deciding ones first."""
    forced = {Mode.LOCAL_ONLY: (PathName.SLM,), Mode.LLM_ONLY: (PathName.LLM,)}.get(mode, tuple(PathName))
    return tuple(dict.fromkeys((DECIDE_MODEL, route, *(path.value for path in forced))))


def resolve_model(requested: str, route: str, mode: Mode) -> ModelChoice:
    """Return what a model name asks for. `slm` and `llm` force a path, even on a route of that name.

    Raises `UnknownModelError` for any other name than the served ones, and for a path that the mode forbids.
    """
    served = served_models(route, mode)
    if requested not in served:
        why = f" while its mode is {mode.value}" if requested in tuple(PathName) else ""
        raise UnknownModelError(
            f"model {_shown(requested)} is not served by route {route!r}{why}; use one of {', '.join(served)}"
        )
    return ModelChoice(PathName(requested) if requested in tuple(PathName) else None)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:61] + "...")
