"""Models behind HTTP: OpenAI's chat completions and Ollama's chat."""

import abc
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from .._check import require_in
from .http_posts import HTTPPosts
from .requests import Failure, ProviderError, Reply, Request

_T = TypeVar("_T")


class Endpoint(abc.ABC):
    """A model behind HTTP, asked greedily, with a seed, for a whole reply.

    Connections are kept between calls, which may come from several threads; `close`, or leaving a
    `with` block, ends them. Proxies of the environment are not used.

    **Arguments:** `name`, how it is routed; `url` of the server, without the protocol's path;
    `model`, what the server calls it; `key_variable`, the environment variable that holds the key,
    read at every call; `timeout`, seconds for a call with all its tries, from the first connection
    to the last byte; `largest`, bytes of a reply's body; `retries`, further tries where the
    connection failed or the server did (5xx), after pauses that double; `clock` and `sleep`, in
    seconds.

    **Raises** `ValueError` for an empty name or model, a url that is not http or https or that
    holds a password, and numbers out of range.
    """

    _path: ClassVar[str]

    def __init__(
        self,
        name: str,
        url: str,
        model: str,
        *,
        key_variable: str | None = None,
        timeout: float = 60.0,
        largest: int = 2**20,
        retries: int = 2,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        for field, text in (("name", name), ("model", model)):
            if not text:
                raise ValueError(f"{field} must not be empty.")
        require_in("timeout", timeout, 0.0, open_low=True)
        require_in("largest", largest, 1)
        require_in("retries", retries, 0)
        self.name, self.model = name, model
        self._key_variable, self._clock, self._largest = key_variable, clock, largest
        self._posts = HTTPPosts(
            name,
            _server(url),
            timeout=timeout,
            largest=largest,
            retries=retries,
            clock=clock,
            sleep=sleep,
        )

    def answer(self, request: Request) -> Reply:
        """The model's reply.

        **Raises** `ProviderError`: every `Failure` is possible.
        """
        began = self._clock()
        key = self._key()
        body = json.dumps(self._body(request.prompt, request)).encode()
        reply = self._posts.post(self._path, body, key)
        text = self._read(reply, lambda value: as_text(self._text(value)))
        return Reply(
            text=text,
            provider=self.name,
            sent_bytes=len(request.prompt.encode()),
            received_bytes=len(text.encode()),
            seconds=self._clock() - began,
        )

    def close(self) -> None:
        """Close the connections that are kept."""
        self._posts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _body(self, prompt: str, request: Request) -> dict[str, Any]:
        """What is posted."""

    @abc.abstractmethod
    def _text(self, reply: Any) -> Any:
        """The text in what came; raises as indexing does if it is not there."""

    def _key(self) -> str | None:
        if self._key_variable is None:
            return None
        key = os.environ.get(self._key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            what = f"the environment variable {self._key_variable} holds no key."
            raise ProviderError(self.name, Failure.NO_KEY, what)
        return key

    def _read(self, body: bytes, read: Callable[[Any], _T]) -> _T:
        """What `read` finds in JSON; it raises as indexing does if that is not there."""
        try:
            return read(json.loads(body))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            # The last for lists in lists in lists.
            what = f"the reply is not one of {self._path}: {body[:200]!r}."
            raise ProviderError(self.name, Failure.GARBAGE, what) from None


class OpenAIEndpoint(Endpoint):
    """`POST /v1/chat/completions`, as OpenAI defined it and many servers offer it."""

    _path = "/v1/chat/completions"

    def _body(self, prompt: str, request: Request) -> dict[str, Any]:
        return self._chat((("user", prompt),), request.max_tokens, request.seed, 0.0)

    def _chat(
        self,
        messages: Sequence[tuple[str, str]],
        max_tokens: int,
        seed: int,
        temperature: float,
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "stream": False,
        }

    def _text(self, reply: Any) -> Any:
        return reply["choices"][0]["message"]["content"]


class OllamaEndpoint(Endpoint):
    """`POST /api/chat` of Ollama, whose penalty for repetition is switched off."""

    _path = "/api/chat"

    def _body(self, prompt: str, request: Request) -> dict[str, Any]:
        options = {"temperature": 0, "seed": request.seed, "repeat_penalty": 1.0}
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "options": options | {"num_predict": request.max_tokens},
            "stream": False,
        }

    def _text(self, reply: Any) -> Any:
        return reply["message"]["content"]


def as_text(value: Any) -> str:
    """A text as JSON has it; null is the empty one, as some servers say that they say nothing.

    **Raises** `TypeError` for anything else, `ValueError` for half of a surrogate pair, which is
    JSON and no text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted; got {value!r}")
    value.encode()
    return value


def _server(url: str) -> str:
    """The address that paths are put behind."""
    try:
        parts = urllib.parse.urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # the port, or brackets
        raise ValueError(f"url is not one ({error}); got {url!r}.") from None
    if not whole:
        raise ValueError(f"url must be http://host[:port][/path], or https; got {url!r}.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must not hold a user or password; keys come from key_variable.")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"url must be of ASCII, without a space, ? or #; got {url!r}.")
    return url.rstrip("/").removesuffix("/v1")
