"""What a reply says of its depth and of the decode canary, beside the text."""

from typing import Any

import numpy as np

from .work import Ending


def statistics(ending: Ending, *, every_token: bool) -> dict[str, Any]:
    """The fields `depth` and `canary` of a reply; `every_token` lists the depth of each."""
    depths = ending.depths
    depth: dict[str, Any] = {
        "mean": round(float(np.mean(depths)), 6) if depths else None,
        "least": min(depths, default=None),
        "most": max(depths, default=None),
    }
    if every_token:
        depth["tokens"] = depths
    canary = {"max_degeneracy": round(ending.max_degeneracy, 6), "flags": ending.flags}
    return {"depth": depth, "canary": canary}


def statistics_headers(ending: Ending) -> dict[str, str]:
    """The same as headers, for clients whose types drop unknown fields."""
    about = statistics(ending, every_token=False)
    mean = about["depth"]["mean"]
    return {
        "x-depth-mean": "" if mean is None else str(mean),
        "x-canary-max-degeneracy": str(about["canary"]["max_degeneracy"]),
        "x-canary-flags": str(about["canary"]["flags"]),
    }
