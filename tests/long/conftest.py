"""Campaigns that take minutes to hours; `make test-long` runs them."""

from pathlib import Path

import pytest

from support.ray_tier import prepare_items


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    prepare_items(items, Path(__file__).parent)
