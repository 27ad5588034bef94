"""Small languages whose every sentence has a known meaning: generated, and as published."""

from .cogs_files import CogsByType, published_cogs, read_cogs
from .cogs_generalisation import COGS_GENERALISATIONS, cogs_like_forbids
from .cogs_lexicon import COGS_LIKE_LEXICON, CogsLexicon, CogsVerb
from .cogs_like import CogsLike
from .cogs_splits import CogsLikeSplits, cogs_like_splits
from .combinations import probes
from .interface import Grammar, Pair, Split, overlap
from .pcfg_set import PCFG_SET_FUNCTIONS, PCFG_SET_SYMBOLS, PcfgSet
from .pcfg_set_files import published_pcfg_set, read_pcfg_set
from .pcfg_set_splits import (
    PCFG_SET_SPLITS,
    TwinSplit,
    localism_consistency,
    localism_steps,
    pcfg_set_forbids,
    pcfg_set_split,
    substitutivity_split,
)
from .scan import (
    SCAN_ACTIONS,
    SCAN_COMMAND_WORDS,
    ScanPair,
    interpret_scan,
    published_scan_split,
    read_scan_file,
    scan_pairs,
    simple_scan_split,
)
from .scan_grammar import ScanGrammar
from .scan_splits import SCAN_SPLITS, scan_forbids, scan_split
from .trees import Tree, subtrees, tree_distance, tree_distances

__all__ = [
    "COGS_GENERALISATIONS",
    "COGS_LIKE_LEXICON",
    "PCFG_SET_FUNCTIONS",
    "PCFG_SET_SPLITS",
    "PCFG_SET_SYMBOLS",
    "SCAN_ACTIONS",
    "SCAN_COMMAND_WORDS",
    "SCAN_SPLITS",
    "CogsByType",
    "CogsLexicon",
    "CogsLike",
    "CogsLikeSplits",
    "CogsVerb",
    "Grammar",
    "Pair",
    "PcfgSet",
    "ScanGrammar",
    "ScanPair",
    "Split",
    "Tree",
    "TwinSplit",
    "cogs_like_forbids",
    "cogs_like_splits",
    "interpret_scan",
    "localism_consistency",
    "localism_steps",
    "overlap",
    "pcfg_set_forbids",
    "pcfg_set_split",
    "probes",
    "published_cogs",
    "published_pcfg_set",
    "published_scan_split",
    "read_cogs",
    "read_pcfg_set",
    "read_scan_file",
    "scan_forbids",
    "scan_pairs",
    "scan_split",
    "simple_scan_split",
    "substitutivity_split",
    "subtrees",
    "tree_distance",
    "tree_distances",
]
