"""What Prometheus is told."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters of one server, in a registry of their own.

    **Arguments:** `loops`, how many the model has.
    """

    def __init__(self, loops: int):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sigma_jax_requests",
            "Requests answered.",
            ("route", "status"),
            registry=self.registry,
        )
        self.tokens = Counter(
            "sigma_jax_tokens", "Tokens read and written.", ("kind",), registry=self.registry
        )
        self.depth = Histogram(
            "sigma_jax_token_depth",
            "Loops of each generated token.",
            buckets=range(1, loops + 1),
            registry=self.registry,
        )
        self.first_token = Histogram(
            "sigma_jax_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
            registry=self.registry,
        )
        self.cancelled = Counter(
            "sigma_jax_cancelled", "Requests given up by their clients.", registry=self.registry
        )
        for kind in ("prompt", "generated"):
            self.tokens.labels(kind)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Report `value()` as it is whenever it is asked for."""
        Gauge(f"sigma_jax_{name}", text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
