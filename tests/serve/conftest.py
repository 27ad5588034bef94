"""One tiny server for all tests of this room, and a client for it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import jax.numpy as jnp
import pytest
import uvicorn
from flax import nnx

from sigma_jax.kernel import Ouro, OuroConfig, load_model, load_tokenizer, save_model
from sigma_jax.serve import Engine, Metrics, ServedModel, create_app
from sigma_jax.training import make_tokenizer

for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = "127.0.0.1,localhost"

SLOTS, QUEUE, CONTEXT, LOOPS, BODY = 3, 90, 96, 3, 2**16
WORDS = ("walk", "run", "jump", "left", "twice")


class Server(NamedTuple):
    """A server that is running."""

    url: str
    engine: Engine

    def metric(self, name: str, **labels: str) -> float:
        """A number as /metrics has it, summed over the labels that are not given."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            wanted = all(f'{key}="{text}"' in head for key, text in labels.items())
            if head.split("{")[0] == f"sigma_jax_{name}" and wanted:
                total += float(value)
        return total

    def settle(self) -> None:
        """Wait until nothing is being answered."""
        until = time.monotonic() + 20
        while self.engine.in_use or self.engine.waiting:
            assert time.monotonic() < until, "a slot or a place in the queue is still taken"
            time.sleep(0.01)


def save_tiny(directory: Path) -> Path:
    """A random model with a byte-level tokenizer, as a Hugging Face directory."""
    tokenizer = make_tokenizer(WORDS)
    config = OuroConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        total_ut_steps=LOOPS,
        initializer_range=0.4,
        eos_token_id=2,
    )
    model = Ouro(config, rngs=nnx.Rngs(5), dtype=jnp.float32)
    save_model(model, directory)
    tokenizer.save_pretrained(directory)
    return directory


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@contextlib.contextmanager
def serving(model_directory: Path) -> Iterator[Server]:
    """A server on a port of its own."""
    served = ServedModel(
        load_model(model_directory), load_tokenizer(model_directory), context=CONTEXT
    )
    engine = Engine(served, Metrics(LOOPS), slots=SLOTS, queue=QUEUE, chunk=16)
    app = create_app(engine, body_limit=BODY)
    port = free_port()
    settings = uvicorn.Config(app, port=port, log_level="warning", ws="none")
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield Server(f"http://127.0.0.1:{port}", engine)
    running.should_exit = True
    thread.join()
    assert not engine.alive


@pytest.fixture(scope="session")
def server(model_directory: Path) -> Iterator[Server]:
    with serving(model_directory) as shared:
        yield shared


@pytest.fixture
def own_server(model_directory: Path) -> Iterator[Server]:
    """For a test that leaves it broken."""
    with serving(model_directory) as own:
        yield own
