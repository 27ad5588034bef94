"""How one request wants its tokens drawn: Ollama's options and OpenAI's fields, checked."""

import dataclasses
import math
import secrets

from ..kernel import CachePolicy, Depth, QExit, Sampling
from .errors import invalid
from .fields import Fields

MOST_STOPS = 16
"""Stop strings in a request."""
_UNLIMITED = 2**31 - 1
_HOTTEST = 100.0
_COLDEST = 1e-3
"""Below it the likeliest token is as good as certain, and logits over it may overflow."""
_PENALTY = 100.0
_PENALTIES = (0.01, 100.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The numbers of one request. `max_tokens` is cut to what the context leaves."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    repeat_last_n: int
    presence_penalty: float
    frequency_penalty: float
    seed: int
    max_tokens: int
    stop: tuple[str, ...]
    exit_threshold: float
    min_loops: int
    max_loops: int
    report_depths: bool

    @property
    def sampling(self) -> Sampling:
        """How the kernel draws."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_last_n=self.repeat_last_n,
        )

    @property
    def depth(self) -> Depth:
        """How deep the kernel looks."""
        return exit_depth(self.exit_threshold, self.min_loops, self.max_loops)


def exit_depth(threshold: float, min_loops: int, max_loops: int) -> Depth:
    """A Q-exit that truly skips loops: the one kind of depth that is served."""
    policy = QExit(threshold=threshold, min_loops=min_loops, max_loops=max_loops)
    return Depth(policy, skip=True, cache=CachePolicy.LAST_EXITED)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds a request's numbers: tokens of context, loops, and the model's own threshold."""

    context: int
    loops: int
    exit_threshold: float


def ollama_settings(fields: Fields, limits: Limits) -> Settings:
    """From the `options` of an Ollama request, with Ollama's defaults.

    **Raises** `RequestError` with status 400, naming the option.
    """
    options = fields.table("options")
    options.whole("num_ctx", 1, 1, _UNLIMITED)  # the server's own context stands
    window = options.whole("repeat_last_n", 64, -1, _UNLIMITED)
    predicted = options.whole("num_predict", -1, -2, _UNLIMITED)
    return Settings(
        temperature=_temperature(options, 0.8, _HOTTEST),
        top_k=options.whole("top_k", 40, 0, _UNLIMITED),
        top_p=_share(options, 0.9),
        min_p=options.number("min_p", 0.0, 0.0, 1.0),
        repeat_penalty=options.number("repeat_penalty", 1.1, *_PENALTIES),
        repeat_last_n=limits.context if window < 0 else min(window, limits.context),
        presence_penalty=options.number("presence_penalty", 0.0, -_PENALTY, _PENALTY),
        frequency_penalty=options.number("frequency_penalty", 0.0, -_PENALTY, _PENALTY),
        max_tokens=predicted if predicted > 0 else _UNLIMITED,
        **_common(options, limits),
    )


def openai_settings(fields: Fields, limits: Limits) -> Settings:
    """From the fields of an OpenAI request, with OpenAI's defaults; Ollama's names are known too.

    **Raises** `RequestError` with status 400, naming the field.
    """
    newer = fields.values.get("max_completion_tokens") is not None
    known = "max_completion_tokens" if newer else "max_tokens"
    window = fields.whole("repeat_last_n", 64, -1, _UNLIMITED)
    return Settings(
        temperature=_temperature(fields, 1.0, 2.0),
        top_k=fields.whole("top_k", 0, 0, _UNLIMITED),
        top_p=_share(fields, 1.0),
        min_p=fields.number("min_p", 0.0, 0.0, 1.0),
        repeat_penalty=fields.number("repeat_penalty", 1.0, *_PENALTIES),
        repeat_last_n=limits.context if window < 0 else min(window, limits.context),
        presence_penalty=fields.number("presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2.0, 2.0),
        max_tokens=fields.whole(known, _UNLIMITED, 1, _UNLIMITED),
        **_common(fields, limits),
    )


def _common(fields: Fields, limits: Limits) -> dict:
    longest = fields.whole("max_loops", limits.loops, 1, limits.loops)
    stops = fields.texts("stop", MOST_STOPS)
    if "" in stops:
        raise invalid(f"{fields.full('stop')} must not hold an empty text.", fields.full("stop"))
    low, high = -(2**63), 2**64 - 1
    seed = fields.whole("seed", secrets.randbits(31), low, high)
    return {
        "seed": seed % 2**32,
        "stop": tuple(stops),
        "exit_threshold": fields.number("exit_threshold", limits.exit_threshold, 0.0, math.inf),
        "min_loops": fields.whole("min_loops", 1, 1, longest),
        "max_loops": longest,
        "report_depths": fields.flag("report_depths"),
    }


def _temperature(fields: Fields, default: float, hottest: float) -> float:
    temperature = fields.number("temperature", default, 0.0, hottest)
    return temperature if temperature >= _COLDEST else 0.0


def _share(fields: Fields, default: float) -> float:
    return max(fields.number("top_p", default, 0.0, 1.0), 1e-6)  # 0: the likeliest alone
