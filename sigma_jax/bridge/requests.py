"""What a provider is asked, what it answers, and how it fails."""

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .._check import require_in


class Passage(NamedTuple):
    """A piece of a text, and where it stands."""

    source: str
    """`path:first-last`: a file below the corpus, and the lines, counted from one."""
    text: str


@dataclass(frozen=True)
class Request:
    """A question, the passages that an answer may rest on, and how long it may be.

    **Arguments:** `question`; `passages`, evidence in order of rank, or none; `max_tokens` of the
    answer; `seed` of the draws, for providers that draw.

    **Raises** `ValueError` for a question without a character that is not white space, a text that
    UTF-8 cannot say (half of a surrogate pair), or fewer than one token.
    """

    question: str
    passages: tuple[Passage, ...] = ()
    max_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError(f"question must not be empty; got {self.question!r}.")
        require_in("max_tokens", self.max_tokens, 1)
        try:
            self.prompt.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"question and passages must be UTF-8's; {error}.") from None

    @property
    def prompt(self) -> str:
        """The question as a model is asked it, behind its passages, which are named."""
        if not self.passages:
            return self.question
        shown = "\n\n".join(f"[{passage.source}]\n{passage.text}" for passage in self.passages)
        return (
            "Answer from these passages alone, briefly, in their words. If they do not say, answer "
            f"with nothing.\n\n{shown}\n\nQuestion: {self.question}"
        )


@dataclass(frozen=True)
class Reply:
    """What a provider said. Empty text: it has no answer, which is no failure."""

    text: str
    provider: str
    sent_bytes: int
    """Of the prompt, in UTF-8."""
    received_bytes: int
    """Of the text, in UTF-8."""
    seconds: float


class Failure(enum.Enum):
    """Why there is no reply."""

    TIMEOUT = "timeout"
    """Nothing, or not the end, came in time."""
    QUOTA = "quota"
    """Too many requests (429), or none left."""
    SERVER = "server"
    """The provider says that it failed (5xx)."""
    REFUSED = "refused"
    """It does not take this request (4xx)."""
    GARBAGE = "garbage"
    """What came is not the protocol's answer."""
    TOO_LONG = "too long"
    """More came than an answer may have."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke off."""
    NO_KEY = "no key"
    """The key that it wants is not set, or not accepted (401, 403)."""


class ProviderError(Exception):
    """A provider gave no reply. The message names the provider and what came instead."""

    def __init__(
        self, provider: str, failure: Failure, message: str, *, retry_after: float | None = None
    ):
        super().__init__(f"provider {provider}: {message}")
        self.provider, self.failure = provider, failure
        self.retry_after = retry_after
        """Seconds that the provider asks to be left alone, if it says."""


class Provider(Protocol):
    """Anything that answers requests. Calls may come from several threads at once."""

    @property
    def name(self) -> str:
        """What it is called, differently from every other."""
        ...

    def answer(self, request: Request) -> Reply:
        """The reply.

        **Raises** `ProviderError` if there is none.
        """
        ...
