"""The rules that one field's type cannot say, once, as a table.

Each rule holds for the value at a path of the object: `*` in a path stands for every item of a list, `{*}`
for every entry of a map. Rules are read by the models (`HybridRoute` refuses an object that breaks one), by
`validate`, which adds file and line, and by `crd`, which hands their CEL to the API server; one table of objects
tests that both agree. A message says what to do and never repeats a value, since values can be secrets.
"""

from typing import Final

from pydantic import BaseModel

from hybridroute_api.v1alpha1.rules.llm import LLM_RULES
from hybridroute_api.v1alpha1.rules.route import ROUTE_RULES
from hybridroute_api.v1alpha1.rules.routing import ROUTING_RULES
from hybridroute_api.v1alpha1.rules.rule import Rule, Violation, values_at
from hybridroute_api.v1alpha1.rules.slm import SLM_RULES

__all__ = ["RULES", "Rule", "Violation", "broken_rules", "values_at"]

RULES: Final[tuple[Rule, ...]] = (*ROUTE_RULES, *SLM_RULES, *LLM_RULES, *ROUTING_RULES)
"""Every rule."""


def broken_rules(root: BaseModel) -> tuple[Violation, ...]:
    """Return every rule that the object breaks, in the table's order."""
    checked = (
        rule.check(location, value)
        for rule in RULES
        for path in rule.paths
        for location, value in values_at(root, path)
    )
    return tuple(violation for violation in checked if violation is not None)
