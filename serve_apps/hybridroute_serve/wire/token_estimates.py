"""Token counts where no tokenizer is at hand: for capability checks, and where an upstream sends no usage.

English text runs at about 4 characters a token in byte-pair vocabularies, other alphabets at 1.5 to 2, and
Chinese, Japanese and Korean at about 1 (https://platform.openai.com/tokenizer). UTF-8's extra bytes tell them
apart: one extra byte for most alphabets, two for CJK. Estimates are marked as such wherever they show. Pure.
"""

__all__ = ["MESSAGE_OVERHEAD_TOKENS", "NON_TEXT_PART_TOKENS", "estimate_tokens", "estimate_tokens_of_bytes"]

MESSAGE_OVERHEAD_TOKENS = 4
"""Role and separators of one chat message in a template."""

NON_TEXT_PART_TOKENS = 765
"""A 1024 x 1024 image at high detail, OpenAI's published example; audio and files are counted alike."""

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_EXTRA_BYTE = 0.4


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text; at least 1 unless it is empty."""
    if not text:
        return 0
    characters = len(text)
    if text.isascii():
        return -(-characters // _CHARACTERS_PER_TOKEN)
    extra_bytes = len(text.encode("utf-8", "surrogatepass")) - characters
    return max(1, round(characters / _CHARACTERS_PER_TOKEN + extra_bytes * _TOKENS_PER_EXTRA_BYTE))


def estimate_tokens_of_bytes(length_bytes: int) -> int:
    """Estimate the tokens of mostly ASCII bytes, such as JSON."""
    return -(-max(0, length_bytes) // _CHARACTERS_PER_TOKEN)
