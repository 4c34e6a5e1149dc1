"""Whether an artifact's promise covers a route as it is now. Pure: digests in, reasons out.

Drift is not judged here: its alarm comes from `hybridroute_serve.routing.drift`.
"""

from collections.abc import Mapping

from hybridroute_serve.routing.artifact.header import ArtifactHeader

__all__ = ["void_reasons"]


def void_reasons(header: ArtifactHeader, models: Mapping[str, str]) -> tuple[str, ...]:
    """Return why the promise is void for these digests of models, adapter, sampling and prompt; empty when it holds.

    What only one side names counts as different: a route that has gained an adapter is another route. An artifact
    without a promise gives the reason why it has none.
    """
    if header.promise is None:
        return (header.promise_note,)
    reasons = []
    for name in sorted(header.models.keys() | models.keys()):
        made, now = header.models.get(name), models.get(name)
        if made != now:
            reasons.append(f"{name} was {_short(made)} when the promise was certified and is {_short(now)}")
    return tuple(reasons)


def _short(digest: str | None) -> str:
    return "absent" if digest is None else digest[:12]
