"""The unit of every budget: tokens, estimated from bytes, alike for all models and all arms."""

BYTES_PER_TOKEN = 3.6
"""Of English text under the vocabularies in use. What a provider counts itself is kept beside."""


def count_tokens(text: str) -> int:
    """About how many tokens `text` is: its UTF-8 bytes over `BYTES_PER_TOKEN`, rounded up."""
    return -int(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)
