"""What `experiments.drift_equivalence` prints and writes: matrices, sentences, a page."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.drift_equivalence import SERVED, Material, Measured, Said
from experiments.drift_variants import FULL, TUNED, TWIN
from sigma_jax import report
from sigma_jax.bridge import DriftMatrix, drift_matrix

LATENT, TEXT = "in the state", "by what they say"


@dataclass(frozen=True)
class Table:
    """One measure on one set of prompts."""

    measure: str
    probes: str
    names: list[str]
    matrix: DriftMatrix


def compare(config: DictConfig, material: Material, measured: Measured) -> list[Table]:
    """The matrices of both measures, on all prompts and, if there are any, on the taught ones."""
    taught = material.taught
    heard = {name: text.heard.drifts for name, text in measured.text.items()}
    plain = {name: text.plain.drifts for name, text in measured.text.items()}
    everything = f"all {len(taught)} prompts"
    given = [(LATENT, everything, measured.latent), (TEXT, everything, heard)]
    if taught.sum() > 1:
        some = f"the {taught.sum()} {config.taught.upper()} prompts"
        latent_some, heard_some = (
            {name: drifts[taught] for name, drifts in whole.items()}
            for whole in (measured.latent, heard)
        )
        given.insert(1, (LATENT, some, latent_some))
        given += [(TEXT, some, heard_some), (TEXT, f"{some}, without the thought", plain)]
    return [
        Table(measure, probes, list(drifts), _matrix(config, list(drifts.values())))
        for measure, probes, drifts in given
    ]


def _matrix(config: DictConfig, drifts: list[np.ndarray]) -> DriftMatrix:
    return drift_matrix(
        np.stack(drifts), level=config.level, resamples=config.resamples, seed=config.seed
    )


def sentence(table: Table, tolerance: float) -> str:
    """Which swaps are safe, which are not, and which these prompts do not decide."""
    safe = table.matrix.safe(tolerance)
    unsafe = table.matrix.unsafe(tolerance)
    pairs = list(itertools.combinations(range(len(table.names)), 2))
    group = _exchangeable(safe)
    together = {pair for pair in pairs if set(pair) <= set(group)}
    fine = {pair for pair in pairs if safe[pair] and safe[pair[::-1]]}
    never = {pair for pair in pairs if unsafe[pair] and unsafe[pair[::-1]]}
    among = ", ".join(table.names[place] for place in group)
    rest = f"in the other {len(never)} of {len(pairs)} pairs"
    if len(never) == len(pairs):
        rest = f"in any of the {len(pairs)} pairs"
    said = [
        f"safe in both directions among {among}" if group else "",
        _with("safe as well: ", fine - together, table.names),
        _with(
            "not decided, or not the same in both directions: ",
            set(pairs) - fine - never,
            table.names,
        ),
        f"not safe {rest}" if never else "",
    ]
    return (
        f"Compared {table.measure}, on {table.probes}, swaps at {tolerance:g} are "
        f"{'; '.join(part for part in said if part)}."
    )


def _with(title: str, pairs: set[tuple[int, int]], names: list[str]) -> str:
    """Pairs in words, as few as will do: each name with all its partners."""
    left, parts = set(pairs), []
    while left:
        counts = [sum(place in pair for pair in left) for place in range(len(names))]
        most = counts.index(max(counts))
        mine = sorted(pair for pair in left if most in pair)
        partners = [names[one if other == most else other] for one, other in mine]
        parts.append(f"{names[most]} with {', '.join(partners)}")
        left -= set(mine)
    return title + "; ".join(parts) if parts else ""


def _exchangeable(safe: np.ndarray) -> tuple[int, ...]:
    """The largest set whose members are all safe for one another."""
    places = range(len(safe))
    for size in range(len(safe), 1, -1):
        for chosen in itertools.combinations(places, size):
            if safe[np.ix_(chosen, chosen)].all():
                return chosen
    return ()


def make_checks(tables: list[Table], measured: Measured) -> list[report.Check]:
    """Nothing differs from itself, nor measured again, nor behind a server; the tuned one does."""
    diagonal = max(float(np.abs(np.diag(table.matrix.pooled)).max()) for table in tables)
    values = {
        "drift of a variant from itself": diagonal,
        "latent drift, computed again": measured.latent_again,
        "drift by what f32 says, asked again": measured.text_again,
    }
    for kernel, server in SERVED.items():
        if server in measured.text:
            values[f"{server} from {kernel} in process"] = _apart(measured, kernel, server)
    if TUNED in measured.latent:
        same = np.array_equal(measured.latent[TUNED], measured.latent[FULL])
        values["tuning that changed nothing"] = float(same)
    return [report.Check(name, value, 0.0, 0.0) for name, value in values.items()]


def _apart(measured: Measured, one: str, other: str) -> float:
    """The largest difference of the drifts of two providers of text."""
    first, second = measured.text[one], measured.text[other]
    pairs = ((first.heard, second.heard), (first.plain, second.plain))
    return max(float(np.abs(a.drifts - b.drifts).max(initial=0.0)) for a, b in pairs)


def write_report(config: DictConfig, material: Material, measured: Measured, output: Path) -> bool:
    """Compare, print, and write drifts, replies, summary and page; True if all checks passed."""
    tables = compare(config, material, measured)
    checks = make_checks(tables, measured)
    passed = all(check.passed for check in checks)
    _write_drifts(material, measured, output)
    summary = {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "prompts": {"all": len(material.prompts), "taught": int(material.taught.sum())},
        "matrices": [_numbers(table, config.tolerance) for table in tables],
        "other_seed": _other_seed(config, measured),
        "replies": _replies(material, measured),
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": passed,
    }
    write_summary(output / "summary.json", summary)
    page = report.render_page(
        "Which providers may stand in for each other",
        _lead(config, material),
        _sections(config, tables, summary, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.drift_equivalence; "
        f"kernel {config.kernel}; seed {config.seed}.",
    )
    report.write_text(output / "report.html", page)
    sentences = [sentence(table, config.tolerance) for table in tables]
    grids = [_grid(table) for table in tables]
    print("\n\n".join([*grids, *sentences, _twin_text(summary["other_seed"]), ""]))
    print(report.checks_table(checks))
    return passed


def _lead(config: DictConfig, material: Material) -> str:
    return (
        f"‖f_old − f_new‖ / ‖f_old‖ of the drifts f of variants of {config.kernel}, all at the "
        f"same states: those of the last tokens of {len(material.prompts)} prompts after the first "
        f"loop, in {config.dim} numbers. A swap is accepted below {config.tolerance:g}. Rows are "
        "the variant that is replaced, columns the one that replaces it; the matrix is not "
        "symmetric, since the old drift is the unit. Intervals, of "
        f"{config.level:.0%}, are bootstraps over prompts, for each pair by itself; on few prompts "
        "they are too short, and where no prompt differs they are 0–0, which does not exclude "
        "differences rarer than one in so many. Safe means that the whole interval of the pooled "
        "number lies below the tolerance: framed in the figures. It does not promise every "
        "prompt, so the share of prompts at which the machine would accept the swap stands beside "
        "it."
    )


_MEANING = {
    LATENT: "The kernels' own states at the end of the prompt, where each goes its own way: "
    "f = φ(its exit state) − x. A shallower one has fewer loops behind x, so its drift is shorter. "
    "It needs a common basis of hidden states, as kernels of the same weights have; for the other "
    "seed see below.",
    TEXT: "One reasoning step of a provider of text: what the kernel's head says of x ends the "
    "prompt, and the f32 kernel reads the reply: f = φ(state behind the reply) − x. Equal replies "
    "are equal drifts. Prompts that the kernel was not trained on get replies without sense. The "
    "thought behind a SCAN command is such a thing too, so these are asked without it as well.",
}


def _sections(
    config: DictConfig, tables: list[Table], summary: dict, checks: list[report.Check]
) -> list[report.Section]:
    sections = []
    for measure in (LATENT, TEXT):
        mine = [table for table in tables if table.measure == measure]
        figure = report.drift_matrix_figure(
            mine[0].names,
            {table.probes: (table.matrix.pooled, table.matrix.high) for table in mine},
            tolerance=config.tolerance,
        )
        title = f"Compared {measure}"
        sections.append(report.Section(title, _MEANING[measure], figure))
        sections += [
            report.Section(
                f"{title}: {table.probes}",
                sentence(table, config.tolerance),
                table=_cells(table, config.tolerance),
            )
            for table in mine
        ]
        if measure == LATENT and summary["other_seed"]:
            text = _twin_text(summary["other_seed"])
            sections.append(report.Section("A kernel from another seed", text))
    columns, *rows = _reply_table(summary["replies"])
    shown = [[c.name, f"{c.value:.4g}", "ok" if c.passed else "FAILED"] for c in checks]
    sections.append(report.Section("What was replied", _REPLIED, table=(columns, rows)))
    about = "Every value must be zero."
    sections.append(report.Section("Checks", about, table=(["check", "value", ""], shown)))
    return sections


_REPLIED = (
    "Replies that are, letter for letter, those of f32, and the taught prompts whose reply is the "
    "prompt's rubric, word for word."
)


def _cells(table: Table, tolerance: float) -> tuple[list[str], list[list[str]]]:
    matrix, shares = table.matrix, table.matrix.accepted(tolerance)
    places = range(len(table.names))
    rows = [
        [
            table.names[old],
            *(
                f"{_number(matrix.pooled[old, new])} "
                f"({_number(matrix.low[old, new])}–{_number(matrix.high[old, new])}) "
                f"{shares[old, new]:.0%}"
                if old != new
                else "0"
                for new in places
            ),
        ]
        for old in places
    ]
    return ["old \\ new", *table.names], rows


def _number(value: float) -> str:
    if np.isinf(value):
        return "∞"
    return "0" if value == 0.0 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _grid(table: Table) -> str:
    """The pooled numbers for a terminal."""
    width = max(map(len, table.names)) + 1
    head = " " * width + "".join(f"{name:>{width}}" for name in table.names)
    rows = [
        f"{name:<{width}}" + "".join(f"{_number(value):>{width}}" for value in row)
        for name, row in zip(table.names, table.matrix.pooled, strict=True)
    ]
    title = f"compared {table.measure}, {table.probes}; rows old, columns new"
    return "\n".join([title, head, *rows])


def _numbers(table: Table, tolerance: float) -> dict:
    def listed(array: np.ndarray) -> list[list[float | str]]:
        return [["infinite" if np.isinf(v) else float(v) for v in row] for row in array]

    matrix = table.matrix
    return {
        "measure": table.measure,
        "prompts": table.probes,
        "variants": table.names,
        "pooled": listed(matrix.pooled),
        "low": listed(matrix.low),
        "high": listed(matrix.high),
        "accepted": listed(matrix.accepted(tolerance)),
        "sentence": sentence(table, tolerance),
    }


def _other_seed(config: DictConfig, measured: Measured) -> dict | None:
    found = measured.alignment
    if found is None:
        return None
    pairs = {"aligned": measured.latent[TWIN], "not_aligned": found.without}
    matrices = {
        name: _matrix(config, [measured.latent[FULL], drifts])
        for name, drifts in pairs.items()
        if drifts is not None
    }
    return {"explained_on_held_out_commands": found.explained} | {
        name: [float(part[0, 1]) for part in (m.pooled, m.low, m.high)]
        for name, m in matrices.items()
    }


def _twin_text(found: dict | None) -> str:
    if found is None:
        return "No kernel from another seed was compared."
    text = (
        "The kernel from another seed has hidden states in a basis of its own. Its φ was fitted on "
        "SCAN commands that both read, and explains "
        f"{found['explained_on_held_out_commands']:.1%} of the variance of the states on others. "
        "f32 → other seed, all prompts: {:.2f} ({:.2f}–{:.2f}).".format(*found["aligned"])
    )
    if "not_aligned" in found:
        text += (
            " Under the φ of the reference it would be {:.2f} ({:.2f}–{:.2f}), which means "
            "nothing: any other basis gives another number."
        ).format(*found["not_aligned"])
    return text


def _replies(material: Material, measured: Measured) -> dict[str, dict[str, float]]:
    reference = measured.text[FULL]
    wanted = [p.rubric for p, known in zip(material.prompts, material.taught, strict=True) if known]

    def right(replies: list[str]) -> int:
        return sum(a == b for a, b in zip(replies, wanted, strict=True))

    def same(one: Said, other: Said) -> int:
        return sum(a == b for a, b in zip(one.replies, other.replies, strict=True))

    rows = np.flatnonzero(material.taught)
    return {
        name: {
            "as_f32": same(text.heard, reference.heard),
            "right_with_thought": right([text.heard.replies[row] for row in rows]),
            "right": right(text.plain.replies),
            "prompts": len(text.heard.replies),
            "taught": len(rows),
        }
        for name, text in measured.text.items()
    }


def _reply_table(found: dict[str, dict[str, float]]) -> list[list[str]]:
    head = ["", "as f32", "taught, right with the thought", "taught, right without it"]
    return [head] + [
        [
            name,
            f"{each['as_f32']} of {each['prompts']}",
            f"{each['right_with_thought']} of {each['taught']}",
            f"{each['right']} of {each['taught']}",
        ]
        for name, each in found.items()
    ]


def _write_drifts(material: Material, measured: Measured, output: Path) -> None:
    """All that the numbers come from; `drift_matrix` on parts of it gives the matrices."""
    arrays = {"x": material.x, "taught": material.taught}
    arrays |= {f"latent/{name}": drifts for name, drifts in measured.latent.items()}
    arrays |= {f"text/{name}": text.heard.drifts for name, text in measured.text.items()}
    arrays |= {f"plain/{name}": text.plain.drifts for name, text in measured.text.items()}
    if measured.alignment is not None and measured.alignment.without is not None:
        arrays["latent/not aligned"] = measured.alignment.without
    report.write_whole(
        output / "drifts.npz",
        lambda path: np.savez_compressed(path, allow_pickle=False, **arrays),
    )
    replies = {
        "prompts": [prompt.id for prompt in material.prompts],
        "heard": {name: text.heard.replies for name, text in measured.text.items()},
        "plain": {name: text.plain.replies for name, text in measured.text.items()},
    }
    text = json.dumps(replies, indent=1, ensure_ascii=False) + "\n"
    report.write_text(output / "replies.json", text)
