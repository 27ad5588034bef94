"""Checks that a run makes of itself, and the table that says which passed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check: `value` must not differ from `expected` by more than `tolerance`."""

    name: str
    value: float
    expected: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it holds; NaN never does."""
        return math.isfinite(self.value) and abs(self.value - self.expected) <= self.tolerance


def checks_table(checks: list[Check]) -> str:
    """The checks as a text table; it ends in `ALL CHECKS PASSED` or names those that failed."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'check':<{width}}  {'value':>12}  {'expected':>12}  {'tolerance':>9}"]
    for check in checks:
        mark = "ok" if check.passed else "FAILED"
        lines.append(
            f"{check.name:<{width}}  {check.value:>12.6g}  {check.expected:>12.6g}"
            f"  {check.tolerance:>9.2g}  {mark}"
        )
    failed = [check.name for check in checks if not check.passed]
    lines.append("ALL CHECKS PASSED" if not failed else f"CHECKS FAILED: {'; '.join(failed)}")
    return "\n".join(lines)
