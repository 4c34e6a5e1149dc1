"""The charts, rendered and linted by helm itself; no cluster."""

from pathlib import Path

import pytest

from support.helm import HELM_MISSING


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HELM_MISSING and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason="helm is not on PATH"))
