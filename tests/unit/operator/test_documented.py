"""What a person meets in conditions and events is in the operator's page."""

import re
from pathlib import Path

import pytest

from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionType
from hybridroute_operator.errors import OperatorError
from hybridroute_operator.plan import ActionKind
from hybridroute_operator.settings import parse_settings

DOCS = Path(__file__).parents[3] / "docs"
OPERATOR = (DOCS / "operator.md").read_text()


def reasons_in(table: str) -> set[str]:
    """Return the words in the first column of the table below a heading."""
    section = OPERATOR.split(f"## {table}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def error_reasons(kind: type[OperatorError] = OperatorError) -> set[str]:
    return {kind.reason}.union(*(error_reasons(below) for below in kind.__subclasses__()))


def test_every_reason_of_a_condition_is_in_the_table_and_no_other() -> None:
    assert reasons_in("Reasons") == {reason.value for reason in ConditionReason}


def test_every_reason_of_an_event_is_in_the_table() -> None:
    recorded = {kind.value for kind in ActionKind} | {"Rejected", "Forbidden", "Terminating"}
    assert reasons_in("Events") == recorded
    assert {"Rejected", "Forbidden"} <= error_reasons()


def test_every_condition_is_on_its_page() -> None:
    page = (DOCS / "conditions.md").read_text()
    assert not [kind for kind in ConditionType if f"`{kind.value}`" not in page]


def test_every_argument_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--help"], {})
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert not [argument for argument in sorted(known) if f"`{argument}`" not in OPERATOR]
