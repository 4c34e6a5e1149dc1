"""A keyword heuristic for complexity, as gateways ship it, for comparison only.

Written anew from the published description of LiteLLM's complexity router: seven dimensions between -1 and 1 with
weights of 0.10 for length (15 tokens are simple, 400 complex), 0.30 for code, 0.25 for words of reasoning, 0.25 for
technical terms, 0.05 for signs of a simple question, 0.03 for several steps and 0.02 for several questions. The word
lists are this file's own, so the numbers are those of such a heuristic, not of that product.
"""

import re

__all__ = ["complexity"]

_CODE = re.compile(
    r"\b(?:def|class|import|return|function|const|async|await|lambda|struct|public|static|void|null|printf?|for|while)\b"
    r"\s*[\w(:{]|```|=>|==|!=|\{\s*$|\bsql\b|\bselect\b.+\bfrom\b",
    re.IGNORECASE | re.MULTILINE,
)
_REASONING = re.compile(
    r"\b(?:prove|proof|derive|explain why|step by step|reason(?:ing)?|analy[sz]e|evaluate|compare|contrast|infer|"
    r"justify|therefore|hence|because|implies|trade-?offs?|assum(?:e|ption)|conclude)\b",
    re.IGNORECASE,
)
_TECHNICAL = re.compile(
    r"\b(?:algorithm|architecture|distributed|protocol|database|complexity|optimi[sz]\w*|matrix|vector|theorem|integral|"
    r"derivative|equation|probability|polynomial|variance|regression|kernel|thread|latency|encryption|enzyme|protein|"
    r"molecule|quantum|statut\w*|jurisdiction|liability|elasticity|equilibrium|hypothesis)\b",
    re.IGNORECASE,
)
_SIMPLE = re.compile(
    r"^\s*(?:hi|hello|hey|thanks|thank you|what is|who is|when is|when was|where is|define|how many|name)\b",
    re.IGNORECASE,
)
_STEPS = re.compile(
    r"\b(?:first|second|then|next|finally|after that)\b|^\s*\d+[.)]\s", re.IGNORECASE | re.MULTILINE
)

_FEW_TOKENS = 15.0
_MANY_TOKENS = 400.0


def complexity(prompt: str) -> float:
    """Return a score; the higher, the more complex the prompt is said to be."""
    tokens = len(prompt) / 4.0
    above = (tokens - _FEW_TOKENS) / (_MANY_TOKENS - _FEW_TOKENS)
    length = min(1.0, above) if above >= 0.0 else -1.0
    questions = prompt.count("?")
    return (
        0.10 * length
        + 0.30 * _density(_CODE, prompt, full=3)
        + 0.25 * _density(_REASONING, prompt, full=2)
        + 0.25 * _density(_TECHNICAL, prompt, full=3)
        - 0.05 * float(_SIMPLE.search(prompt) is not None)
        + 0.03 * _density(_STEPS, prompt, full=3)
        + 0.02 * min(1.0, max(0, questions - 1) / 2.0)
    )


def _density(pattern: re.Pattern[str], prompt: str, full: int) -> float:
    """Return matches as a share of `full`, at most 1."""
    found = 0
    for _ in pattern.finditer(prompt):
        found += 1
        if found == full:
            break
    return found / full
