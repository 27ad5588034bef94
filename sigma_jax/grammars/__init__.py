"""Small languages whose every sentence has a known meaning: generated, and as published."""

from .scan import (
    SCAN_ACTIONS,
    SCAN_COMMAND_WORDS,
    ScanPair,
    ScanSplit,
    interpret_scan,
    published_scan_split,
    scan_pairs,
    simple_scan_split,
)

__all__ = [
    "SCAN_ACTIONS",
    "SCAN_COMMAND_WORDS",
    "ScanPair",
    "ScanSplit",
    "interpret_scan",
    "published_scan_split",
    "scan_pairs",
    "simple_scan_split",
]
