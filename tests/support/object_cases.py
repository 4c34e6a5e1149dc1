"""Objects that one field's type or bounds decide: refused ones with the field to blame, and admitted ones.

Read by the tests of the models and by those of a real API server. `support.rule_cases` has the rules between fields.
"""

from typing import Any

from support.rule_cases import routing, second, slm, upstream

__all__ = ["ADMITTED", "REFUSED"]


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("name with capitals", named("Support")),
    ("name that starts with a digit", named("1support")),
    ("name that ends with a dash", named("support-")),
    ("name with a dot", named("support.eu")),
    ("name of 40 characters", named("s" * 40)),
    ("unknown field of the spec", spec(budgets={})),
    ("unknown field further in", slm(contextTokns=4096)),
    ("unknown field of an upstream", upstream(baseUrl="https://a/v1")),
    ("mode of another case", spec(mode="hybrid")),
    ("mode that does not exist", spec(mode="Mirror")),
    ("shadow path of another case", spec(mode="Shadow", shadowServe="llm")),
    ("engine that does not exist", slm(engine="onnx")),
    ("model without text", slm(model={"uri": ""})),
    ("model as a list", slm(model={"uri": ["a.gguf"]})),
    ("context too small", slm(contextTokens=255)),
    ("context too large", slm(contextTokens=1_048_577)),
    ("context as text", slm(contextTokens="4096")),
    ("context as a fraction", slm(contextTokens=4096.5)),
    ("no sequences", slm(parallelSequences=0)),
    ("flag as text", slm(capabilities={"tools": "true"})),
    ("too many GPUs", slm(resources={"gpus": 17}, pricing={"gpuHourUSD": "1"})),
    ("CPU as a number", slm(resources={"cpu": 2})),
    ("CPU with a wrong unit", slm(resources={"cpu": "2 cores"})),
    ("memory without unit", slm(resources={"memory": "2048"})),
    ("toleration with a wrong operator", slm(resources={"tolerations": [{"operator": "exists"}]})),
    ("long label value", slm(resources={"nodeSelector": {"pool": "a" * 64}})),
    ("price as a number", slm(pricing={"machineHourUSD": 0.1})),
    ("price with a currency", slm(pricing={"machineHourUSD": "0.10 USD"})),
    ("negative price", slm(pricing={"machineHourUSD": "-1"})),
    ("price with ten decimals", slm(pricing={"machineHourUSD": "0.1234567891"})),
    ("price above a million", slm(pricing={"machineHourUSD": "1000000.000000001"})),
    ("duration without unit", slm(timeouts={"firstByte": "20"})),
    ("duration as a number", slm(timeouts={"firstByte": 20})),
    ("duration in days", spec(records={"maxAge": "7d"})),
    ("duration too short", slm(timeouts={"firstByte": "99ms"})),
    ("duration too long", slm(timeouts={"total": "1h1ms"})),
    ("records too short-lived", spec(records={"maxAge": "59m"})),
    ("topology of another case", spec(topology="ha")),
    ("rollout that does not exist", slm(rollout="Rolling")),
    ("image with a space", slm(image="registry /slm")),
    ("Secret's name with capitals", upstream(credentials={"secretName": "Provider"})),
    ("too many pull secrets", spec(pods={"imagePullSecrets": [f"s{number}" for number in range(9)]})),
    ("no replicas", slm(scaling={"minReplicas": 0})),
    ("too many replicas", slm(scaling={"maxReplicas": 1001})),
    ("no upstream", {"spec": {"llm": {"upstreams": []}}}),
    ("upstream name with capitals", upstream(name="Primary")),
    ("upstream name too long", upstream(name="p" * 40)),
    ("long header value", upstream(headers={"x": "a" * 4097})),
    ("variable that is a key", upstream(credentials={"env": "sk-1234"})),
    ("nothing to generate", upstream(maxOutputTokens=0)),
    ("price of a token above a million", upstream(pricing={"inputPerMillionTokensUSD": "1000001"})),
    ("connect too slow", upstream(timeouts={"connect": "61s"})),
    ("threshold as a number", routing(confidence={"threshold": 0.5}, examples={"local": ["a"]})),
    ("threshold above one", routing(confidence={"threshold": "1.01"}, examples={"local": ["a"]})),
    ("scope below minus one", routing(scope={"threshold": "-1.01"}, examples={"local": ["a"]})),
    ("risk above one", routing(policy={"file": "p"}, confidence={"maxRisk": "1.01"})),
    ("delta that no table has", routing(policy={"file": "p"}, confidence={"delta": "0.001"})),
    ("drift action of another case", routing(policy={"file": "p"}, drift={"action": "tighten"})),
    ("margin above one", routing(cascade={"threshold": "1.1"}, examples={"local": ["a"]})),
    ("no share", routing(cascade={"threshold": "1", "maxShare": "0"}, examples={"local": ["a"]})),
    ("too many tokens", routing(cascade={"threshold": "1", "tokens": 257}, examples={"local": ["a"]})),
    ("audit of more than all", routing(policy={"file": "p"}, audit={"share": "1.01"})),
    ("wrong word for out of scope", routing(outOfScope="Escalated")),
    ("empty example", routing(examples={"local": [""]})),
    ("long example", routing(examples={"local": ["a" * 501]})),
    ("too many examples", routing(examples={"local": [str(number) for number in range(501)]})),
    ("body too large", spec(limits={"maxBodyMiB": 257})),
    ("records too small", spec(records={"maxSizeMiB": 15})),
]
"""What is wrong, and the changes to a valid route that make it so."""

ADMITTED: list[tuple[str, dict[str, Any]]] = [
    ("the least there is", {}),
    ("name of 39 characters", named("s" * 39)),
    ("each mode", spec(mode="LLMOnly")),
    ("bounds, lowest", slm(contextTokens=256, parallelSequences=1)),
    ("bounds, highest", slm(contextTokens=1_048_576, parallelSequences=256)),
    ("free machine", slm(pricing={"machineHourUSD": "0"})),
    ("dearest machine", slm(pricing={"machineHourUSD": "1000000"})),
    ("exact price", slm(pricing={"machineHourUSD": "0.123456789"})),
    ("compound duration", slm(timeouts={"firstByte": "1m30s", "total": "1h"})),
    ("shortest duration", slm(timeouts={"firstByte": "100ms"})),
    ("fraction of a CPU", slm(resources={"cpu": "0.5", "memory": "512Mi"})),
    ("CPU in thousandths", slm(resources={"cpu": "500m"})),
    ("tolerations", slm(resources={"tolerations": [{"key": "gpu", "operator": "Exists"}]})),
    ("two upstreams", second()),
    ("key in a Secret", upstream(credentials={"secretName": "provider.eu"})),
    (
        "everything for pods",
        spec(topology="HA", pods={"image": "localhost:5000/serve@sha256:0", "imagePullSecrets": ["r"]}),
    ),
    ("widest thresholds", routing(scope={"threshold": "-1"}, examples={"local": ["a"]})),
    ("policy from a file and a ConfigMap", routing(policy={"file": "p", "configMapName": "p"})),
    (
        "the most and the least risk",
        routing(policy={"file": "p"}, confidence={"maxRisk": "0", "delta": "0.01"}),
    ),
    (
        "the widest cascade",
        routing(cascade={"threshold": "1", "maxShare": "1", "tokens": 256}, examples={"local": ["a"]}),
    ),
    ("a thousand replicas", slm(scaling={"minReplicas": 1000, "maxReplicas": 1000})),
    ("immediate scaling", slm(scaling={"upscaleDelay": "0s", "downscaleDelay": "0s"})),
    ("500 examples of 500 characters", routing(examples={"local": [f"{n:0500}" for n in range(500)]})),
]
