"""The two scripts that a newcomer runs first."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def script(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_smallest_example_prints_ten_lines():
    lines = script("mre_sigma.py").splitlines()
    assert len(lines) <= 10
    assert lines[-1] == "ALL CHECKS PASSED"
    assert "0.6310" in lines[3]


def test_the_smoke_test_passes():
    assert script("smoke_test.py").splitlines()[-1] == "ALL CHECKS PASSED"
