"""Benchmarks against peers: `python scripts/bench.py NAME [--json FILE]`.

Each prints a table for people and, with --json, writes a flat list of
{case, peer, ratio, ours, theirs, unit} for programs. A ratio above one means ours is better.
Compiled code is warmed up first, and ours and theirs are timed in turn in one process.
"""

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.launch import prepare

NAMES = ("schema", "stability", "vm", "kernel", "bridge", "training", "runtime")


def main() -> int:
    """Run one benchmark and print its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=NAMES, help="which benchmark to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args()
    prepare()
    import jax

    from sigma_jax.report import write_text

    device = jax.devices()[0]
    print(
        f"{arguments.name}: {device.platform} × {jax.device_count()} ({device.device_kind}), "
        f"jax {jax.__version__}, Python {platform.python_version()}"
    )
    rows = importlib.import_module(f"benchmarks.{arguments.name}").rows()
    header = ("case", "peer", "ratio", "ours", "theirs", "unit")
    print(f"{header[0]:<52}{header[1]:<30}{header[2]:>8}{header[3]:>14}{header[4]:>14}  unit")
    kept = []
    for row in rows:
        kept.append(row)
        print(
            f"{row['case']:<52}{row['peer']:<30}{row['ratio']:>8.4g}{row['ours']:>14.5g}"
            f"{row['theirs']:>14.5g}  {row['unit']}",
            flush=True,
        )
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(kept, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
