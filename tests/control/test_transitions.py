"""A walk of one route through changes drawn from its schema, on a real API server, seeded.

Each step changes one field, rightly or by mistake, or undoes a mistake, or deletes the route and makes it again. Who
refuses what is compared with the models; after each step the children are those of a fresh apply of the last valid
object in another namespace, and nothing is restarted. `TRANSITIONS=500` walks as far as the campaign, and
`TRANSITIONS_TABLE=FILE` writes down what it met.
"""

import os
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_render.kubernetes.problems import cluster_problems
from support.api_server import ApiServer
from support.operator_process import OperatorProcess
from support.route_world import RouteWorld
from support.routes import route_document
from support.schema_walk import draw_change, fields_of_spec
from support.transitions import MISGUIDED

STEPS = int(os.environ.get("TRANSITIONS", "25"))
TABLE = os.environ.get("TRANSITIONS_TABLE")
SEED = 20261127
Spec = dict[str, Any]


def draw_step(valid: Spec, choose: random.Random) -> tuple[str, Spec]:
    """Return what is done next, in words, and the spec after it."""
    kind = choose.random()
    if kind < 0.04:
        return "delete and make again", valid
    if kind < 0.12:
        return "a known mistake", route_document(choose.choice(MISGUIDED))["spec"]
    change = draw_change(valid, choose, misguided=0.25)
    return change.what, change.spec


def refused_by_models(spec: Spec) -> bool:
    try:
        route = HybridRoute.model_validate(route_document() | {"spec": spec})
    except ValidationError:
        return True
    return bool(cluster_problems(route))


@pytest.mark.timeout(600 + 60 * STEPS)
def test_every_transition_ends_as_a_fresh_apply(operator: OperatorProcess, cluster: ApiServer) -> None:
    choose = random.Random(SEED)
    world = RouteWorld(cluster, "walk")
    valid: Spec = route_document()["spec"]
    status, answer = world.apply(route_document())
    assert status == 201, answer["message"]
    wanted = world.fresh_children(valid)
    met: Counter[str] = Counter()
    changed: set[str] = set()
    for number in range(STEPS):
        what, spec = draw_step(valid, choose)
        told = f"step {number}: {what}"
        if what == "delete and make again":
            assert cluster.request("DELETE", world.path)[0] == 200, told
            met["deleted and made again"] += 1
        status, answer = world.apply(route_document() | {"spec": spec})
        if status >= 400:
            assert status in (400, 422), (told, answer["message"])
            assert refused_by_models(spec), (told, answer["message"])
            met["refused by the API server"] += 1
            assert world.children() == wanted, told  # nothing has moved
            continue
        accepted, message = world.wait_until_seen(answer["metadata"]["generation"])
        if what == "delete and make again":
            world.wait_until_owned_by(answer["metadata"]["uid"])
        # As it is stored: the API server drops a null and fills in the default.
        assert accepted is not refused_by_models(answer["spec"]), (told, message)
        if not accepted:
            # What serves goes on, repaired as ever; undoing the mistake is all that it takes.
            met["refused by the operator"] += 1
            world.wait_until_children_are(wanted)
            status, answer = world.apply(route_document() | {"spec": valid})
            assert status == 200, (told, answer["message"])
            assert world.wait_until_seen(answer["metadata"]["generation"]) == (True, ""), told
            met["undone"] += 1
        elif spec != valid:
            valid, wanted = spec, world.fresh_children(spec)
            changed.add(what.split(" = ")[0].removeprefix("without "))
            met["accepted"] += 1
        world.wait_until_children_are(wanted)
    assert met["refused by the API server"] > 0
    assert met["accepted"] > 0
    assert operator.metric("hybridroute_operator_leading") == 1
    if TABLE is not None:
        write_table(Path(TABLE), met, changed)


def write_table(path: Path, met: Counter[str], changed: set[str]) -> None:
    rows = [f"| {what} | {count} |" for what, count in sorted(met.items())]
    fields = len(fields_of_spec())
    path.write_text(
        f"# {STEPS} transitions on a real API server, seed {SEED}\n\n"
        f"{datetime.now(UTC).date()}, `TRANSITIONS={STEPS} TRANSITIONS_TABLE=FILE python -m pytest"
        " tests/control/test_transitions.py`.\n\n"
        "| what came of a step | steps |\n|---|---|\n" + "\n".join(rows) + "\n\n"
        f"{len(changed)} of the schema's {fields} fields were changed by an accepted step. After every step the\n"
        "children were those of a fresh apply.\n"
    )
