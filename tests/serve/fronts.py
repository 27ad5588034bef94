"""A model behind HTTP that tests hold in their hands, and the program in front of it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sigma_jax.runtime import Message, count_tokens, parse, render, users_words

FRONT = [sys.executable, "-m", "sigma_jax.serve.conversations"]


class Refusal(Exception):
    """What the upstream's function raises to answer with a status and no reply."""

    def __init__(self, status: int):
        self.status = status


class Upstream:
    """An OpenAI-compatible server on a port of its own: `reply` of a prompt's text, and its words.

    A reply may be a list of texts and functions: what is streamed, and what is called in between.
    """

    def __init__(self, reply: Callable[[str, str], str | list]):
        self.reply = reply
        self.asked: list[str] = []
        self.bodies: list[dict] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with contextlib.suppress(ConnectionError):  # of a front that was killed
                    upstream._answer(self, body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def calls(self, words: str) -> int:
        """How often it was asked with these words of the user."""
        return self.asked.count(words)

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        prompt = render(Message(m["role"], m["content"]) for m in body["messages"])
        words = users_words(parse(prompt)[-1].content)
        self.asked.append(words)
        self.bodies.append(body)
        try:
            reply = self.reply(prompt, words)
        except Refusal as refusal:
            return self._send(handler, b'{"error": {"message": "no."}}', refusal.status)
        parts = [reply] if isinstance(reply, str) else reply
        if body["stream"]:
            return self._stream(handler, prompt, parts)
        text = "".join(part if isinstance(part, str) else part() or "" for part in parts)
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = {"choices": [choice], "usage": _usage(prompt, text)}
        return self._send(handler, json.dumps(whole).encode())

    def _send(self, handler: BaseHTTPRequestHandler, data: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _stream(self, handler: BaseHTTPRequestHandler, prompt: str, parts: list) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.close_connection = True

        def say(value: dict) -> None:
            handler.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
            handler.wfile.flush()

        for part in parts:
            text = part if isinstance(part, str) else part()
            if text is None:
                return  # broken off
            say({"choices": [{"delta": {"content": text}, "finish_reason": None}]})
        say({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        text = "".join(part for part in parts if isinstance(part, str))
        say({"choices": [], "usage": _usage(prompt, text)})
        handler.wfile.write(b"data: [DONE]\n\n")


class Front:
    """The program in a process of its own, which keeps its port when it is started again."""

    def __init__(self, upstream: Upstream, store: Path, *arguments: str):
        self.store, self._port = store, 0
        self._command = [*FRONT, "--model", upstream.url, "--model-name", "planner"]
        self._command += ["--store", str(store), *arguments]
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; return at once if its port is known."""
        about = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "NO_PROXY": "127.0.0.1"}
        command = [*self._command, "--port", str(self._port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | about
        )
        if not self._port:
            self.wait()

    def wait(self) -> None:
        """Until it serves."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"http://\S+:(\d+)", line):
                self._port = int(found[1])
                return
        raise AssertionError("the front did not start")

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As Ctrl-C does; the exit status."""
        return self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        with self._process:
            self._process.send_signal(number)
            return self._process.wait(timeout=30)


def _usage(prompt: str, reply: str) -> dict[str, int]:
    return {"prompt_tokens": count_tokens(prompt), "completion_tokens": count_tokens(reply)}
