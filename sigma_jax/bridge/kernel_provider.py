"""A kernel in this process as a provider of text."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .._check import require_in
from ..kernel import Depth, Ouro, check_tokenizer, generate, stop_ids
from .requests import Failure, ProviderError, Reply, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class KernelProvider:
    """Answers with the kernel's likeliest tokens, in its chat format if it has one.

    One call at a time; others wait. A prompt that leaves no room for an answer of `max_tokens`, or
    of half the context if that is less, loses its last passages, those of lowest rank, until it
    does.

    **Arguments:** `model`, `tokenizer`; `name`, how it is routed; `depth`, of every token;
    `context`, how many tokens a prompt and its answer may have together, cut to what the model has
    positions for: memory for so many is taken during a call, so that one program serves all prompts
    between two powers of two; `clock`, seconds.

    **Raises** `ValueError` for an empty name, a context below two, or a tokenizer with ids that the
    model does not have.
    """

    def __init__(
        self,
        model: Ouro,
        tokenizer: "PreTrainedTokenizerFast",
        *,
        name: str = "kernel",
        depth: Depth = Depth(),
        context: int = 2048,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not name:
            raise ValueError("name must not be empty.")
        require_in("context", context, 2)
        check_tokenizer(tokenizer, model.config)
        self.name, self.depth = name, depth
        self.context = min(context, model.config.max_position_embeddings)
        self._model, self._tokenizer, self._clock = model, tokenizer, clock
        self._stop_ids = stop_ids(tokenizer, model.config)
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """The kernel's reply.

        **Raises** `ProviderError`: refused, if the question alone is too long for the context;
        server, if the model's numbers are not finite.
        """
        began = self._clock()
        with self._lock:
            prompt, ids = self._fitting(request)
            text = self._generated(ids, min(request.max_tokens, self.context - len(ids)))
        return Reply(
            text=text,
            provider=self.name,
            sent_bytes=len(prompt.encode()),
            received_bytes=len(text.encode()),
            seconds=self._clock() - began,
        )

    def _fitting(self, request: Request) -> tuple[str, list[int]]:
        """The longest prompt that leaves room for the answer, and its tokens."""
        room = self.context - min(request.max_tokens, self.context // 2)
        count = 0
        for kept in range(len(request.passages), -1, -1):
            prompt = replace(request, passages=request.passages[:kept]).prompt
            ids = self._ids(prompt)
            count = len(ids)
            if count <= room:
                return prompt, ids
        what = f"the question has {count} tokens, and there is room for {room}."
        raise ProviderError(self.name, Failure.REFUSED, what)

    def _ids(self, prompt: str) -> list[int]:
        tokenizer = self._tokenizer
        if tokenizer.chat_template is None:
            return tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=True).ids
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def _generated(self, ids: list[int], most: int) -> str:
        try:
            given = generate(
                self._model,
                [ids],
                max_new_tokens=most,
                depth=self.depth,
                stop_ids=self._stop_ids,
                capacity=self.context,
            )
        except FloatingPointError as error:
            raise ProviderError(self.name, Failure.SERVER, str(error)) from error
        text = self._tokenizer.backend_tokenizer.decode(given.tokens[0], skip_special_tokens=False)
        return text.removesuffix("\N{REPLACEMENT CHARACTER}")  # a character cut at the limit
