"""CLINC150 against a route's examples: how much of a bank's questions is kept, how much of the rest is escalated.

    python benchmarks/replay_clinc.py DATA --write queries.jsonl    # 300 test queries for `hybridroute replay`
    python benchmarks/replay_clinc.py DATA --score examples/hybridroute.yaml [--split val]

DATA is a folder with `data_full.json` and `domains.json` of clinc/oos-eval (CC BY 3.0); it is never committed.
Kept means: `decide_route` says slm, with both paths up. Banking and credit cards are the bank's; the other eight
domains are not; queries outside every domain are counted apart. Thresholds were chosen on `val`, and `test` was
scored once, afterwards.
"""

import argparse
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import PathName
from hybridroute_cli.documents import load_route
from hybridroute_render.live import ResolvedUpstream, render_live_policy
from hybridroute_serve.routing.decision import decide_route
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.routing.examples import ExamplesScorer
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.routing.text import routing_text
from hybridroute_serve.wire.token_estimates import estimate_tokens

BANK_DOMAINS = frozenset({"banking", "credit_cards"})
OUTSIDE = "outside every domain"
QUERIES_A_SIDE = 150
SEED = 150


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    intent: str
    domain: str

    @property
    def expected_path(self) -> PathName:
        return PathName.SLM if self.domain in BANK_DOMAINS else PathName.LLM


def read_queries(data: Path, split: Literal["val", "test"]) -> list[Query]:
    domain_of = {
        intent: domain
        for domain, intents in json.loads((data / "domains.json").read_text()).items()
        for intent in intents
    }
    full = json.loads((data / "data_full.json").read_text())
    return [Query(text, intent, domain_of[intent]) for text, intent in full[split]] + [
        Query(text, intent, OUTSIDE) for text, intent in full[f"oos_{split}"]
    ]


def write_replay(queries: list[Query], file: Path) -> None:
    """Write as many bank questions as others, shuffled, the same ones every time."""
    chance = random.Random(SEED)
    bank = [query for query in queries if query.domain in BANK_DOMAINS]
    others = [query for query in queries if query.domain not in BANK_DOMAINS | {OUTSIDE}]
    chosen = chance.sample(bank, QUERIES_A_SIDE) + chance.sample(others, QUERIES_A_SIDE)
    chance.shuffle(chosen)
    lines = [json.dumps({"prompt": query.text, "expected_path": query.expected_path}) for query in chosen]
    file.write_text("\n".join(lines) + "\n")
    print(f"wrote {len(lines)} queries to {file}")


def live_policy(route_file: Path) -> LivePolicy:
    route = load_route(route_file)
    upstreams = [ResolvedUpstream(upstream.name, upstream.base_url) for upstream in route.spec.llm.upstreams]
    return render_live_policy(route, tuple(upstreams))


def score(queries: list[Query], policy: LivePolicy) -> None:
    routing = policy.routing
    scorer = ExamplesScorer(load_static_embedder(), routing.local_examples, routing.remote_examples)

    def decide(text: str) -> RouteDecision:
        facts = RequestFacts(
            requested_model="hybridroute",
            text=routing_text(text),
            estimated_prompt_tokens=estimate_tokens(text),
        )
        return decide_route(facts, policy, scorer, PathHealth())

    known = {" ".join(query.text.lower().split()).strip(" ?.!") for query in queries}
    examples = (*routing.local_examples, *routing.remote_examples)
    copied = sum(example.lower().strip(" ?.!") in known for example in examples)
    decided = [(query, decide(query.text)) for query in queries]
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong_intents: Counter[str] = Counter()
    for query, decision in decided:
        side = "bank" if query.domain in BANK_DOMAINS else OUTSIDE if query.domain == OUTSIDE else "others"
        for key in {side, query.domain}:
            total[key] += 1
            right[key] += decision.path is query.expected_path
        wrong_intents[query.intent] += decision.path is not query.expected_path
    print(f"examples: {len(routing.local_examples)} local, {len(routing.remote_examples)} remote, ", end="")
    print(f"{copied} of them verbatim in this split")
    print(f"thresholds: confidence {routing.threshold}, scope {routing.scope_threshold}")
    print(f"kept on the slm, of {total['bank']} bank questions: {right['bank'] / total['bank']:.3f}")
    print(f"escalated, of {total['others']} others: {right['others'] / total['others']:.3f}")
    print(f"escalated, of {total[OUTSIDE]} {OUTSIDE}: {right[OUTSIDE] / total[OUTSIDE]:.3f}")
    for domain in sorted(total.keys() - {"bank", "others", OUTSIDE}):
        print(f"  {domain:20} {right[domain] / total[domain]:.3f} of {total[domain]}")
    gates = Counter(decision.gate.value for _, decision in decided)
    print("gates:", ", ".join(f"{gate} {count}" for gate, count in gates.most_common()))
    print("most wrong:", ", ".join(f"{intent} {count}" for intent, count in wrong_intents.most_common(8)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of CLINC150")
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write queries for `hybridroute replay`")
    parser.add_argument("--score", type=Path, metavar="ROUTE.yaml", help="print the shares, offline")
    options = parser.parse_args()
    if not options.write and not options.score:
        parser.error("nothing to do: give --write FILE or --score ROUTE.yaml")
    queries = read_queries(options.data, options.split)
    if options.write:
        write_replay(queries, options.write)
    if options.score:
        score(queries, live_policy(options.score))


if __name__ == "__main__":
    main()
