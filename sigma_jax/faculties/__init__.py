"""The five faculty benchmarks, on anything that answers; and whether they measure what they say."""

from .adapters import learner_agent, provider_agent
from .agents import Agent, CannotAnswer, scoring_agent, source_agent, text_agent
from .asking import Calls, Outcome, ask, count_calls, count_endings
from .cogs_items import metacognition_pairs
from .h_afb import CUE, H_AFB, STRENGTHS, attention_pairs
from .h_dcb import DENSITIES, H_DCB
from .h_mcb import H_MCB
from .h_ptb import H_PTB, learning_pairs
from .h_stb import H_STB, dyad
from .kernel_scores import kernel_agent
from .measurement import Benchmark, Measurement, measure
from .questions import (
    Form,
    Key,
    Question,
    as_sentence,
    option_question,
    percent_question,
    sentence_question,
    text_question,
)
from .readings import Ending
from .scan_retrieval import executive_pairs, rule_of, surface_neighbours
from .scores import Interval, Score
from .scripted import ScriptedAgent
from .validity import (
    Validity,
    benchmark_validity,
    construct_index,
    difficulty_gradient,
    format_diversity,
    scripted_grid,
    session_reliability,
)

__all__ = [
    "CUE",
    "DENSITIES",
    "H_AFB",
    "H_DCB",
    "H_MCB",
    "H_PTB",
    "H_STB",
    "STRENGTHS",
    "Agent",
    "Benchmark",
    "Calls",
    "CannotAnswer",
    "Ending",
    "Form",
    "Interval",
    "Key",
    "Measurement",
    "Outcome",
    "Question",
    "Score",
    "ScriptedAgent",
    "Validity",
    "as_sentence",
    "ask",
    "attention_pairs",
    "benchmark_validity",
    "construct_index",
    "count_calls",
    "count_endings",
    "difficulty_gradient",
    "dyad",
    "executive_pairs",
    "format_diversity",
    "kernel_agent",
    "learner_agent",
    "learning_pairs",
    "measure",
    "metacognition_pairs",
    "option_question",
    "percent_question",
    "provider_agent",
    "rule_of",
    "scoring_agent",
    "scripted_grid",
    "sentence_question",
    "session_reliability",
    "source_agent",
    "surface_neighbours",
    "text_agent",
    "text_question",
]
