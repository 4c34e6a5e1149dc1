"""What this machine must have for a route; asked by the supervisor before it deploys. Pure."""

from typing import Any

__all__ = ["MissingGpuError", "refuse_missing_gpus"]


class MissingGpuError(Exception):
    """The machine has fewer GPUs than one replica asks for. The message names the field."""


def refuse_missing_gpus(config: dict[str, Any], *, there: int) -> None:
    """Raise when a replica asks for more GPUs than the machine has: Ray would wait for them without end."""
    for application in config["applications"]:
        for deployment in application["deployments"]:
            wanted = deployment["ray_actor_options"].get("num_gpus", 0)
            if wanted > there:
                raise MissingGpuError(
                    f"spec.slm.resources.gpus: a replica asks for {wanted}, and this machine has {there}"
                )
