"""`python -m sigma_jax.serve`: what it says before it loads anything, and that it serves."""

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

SERVE = [sys.executable, "-m", "sigma_jax.serve"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SERVE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_and_wrong_arguments_come_without_jax() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sigma_jax.serve"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "127.0.0.1" in helped.stdout
    assert "Ollama" in helped.stdout
    assert not re.search(r"\| +(jax|starlette)\b", helped.stderr)
    for wrong in (["--slots", "0"], ["--port", "70000"], ["--steps", "x"], ["--dtype", "int4"]):
        refused = run("--model", "m", *wrong)
        assert refused.returncode == 2
        assert wrong[0] in refused.stderr
    assert "--model" in run().stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run("--model", "m", "--port", str(port))
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_absent_extra_is_named() -> None:
    code = (
        "import runpy, sys; sys.modules['uvicorn'] = None; sys.argv[1:] = ['--model', 'm'];"
        "runpy.run_module('sigma_jax.serve', run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert refused.stderr == ("error: uvicorn not installed: pip install 'sigma_jax[serve]'\n")


def test_an_absent_model_is_named(tmp_path) -> None:
    refused = run("--model", str(tmp_path / "nothing"), "--port", "0")
    assert refused.returncode == 1
    assert str(tmp_path / "nothing") in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(model_directory) -> None:
    few = ["--port", "0", "--slots", "1", "--context", "32", "--name", "mine"]
    command = [*SERVE, "--model", str(model_directory), *few]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = iter(process.stdout.readline, "")
        try:
            url = next(found[0] for line in said if (found := re.search(r"http://\S+", line)))
            assert url.startswith("http://127.0.0.1:")
            assert httpx.get(f"{url}/health", timeout=30).json()["model"] == "mine:latest"
            body = {"model": "mine", "prompt": "walk", "raw": True, "stream": False}
            reply = httpx.post(f"{url}/api/generate", json=body, timeout=60)
            assert reply.json()["done"] is True
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
