"""What the commands of `python -m sigma_jax.runtime` do, each with its options as they came."""

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from .._files import write_text, write_whole
from ..bridge import ChatEndpoint
from .calibration import Calibration, calibrate, load_calibration, save_calibration
from .checks import violations
from .control import ControlPolicy
from .conversation import ConversationRuntime
from .conversation_pages import conversation_page
from .conversation_store import ConversationStore
from .conversation_views import conversation_view
from .encoders import Encoder, HashedEncoder
from .identity import ASSISTANT, Identity, read_identity
from .identity_calibration import CALIBRATION_PROMPTS, calibrate_identity
from .minilm import load_minilm
from .models import Model, as_model
from .replayed_logs import log_features, measurement_table, replay_log
from .scenario import load_scenario
from .simulated_model import SimulatedModel
from .terminal_chat import Terminal, chat
from .turn_in_progress import RuntimeSettings
from .turn_logs import LogFlag, LoggedConversation, read_turns, recorded_log, write_turns

_SIMULATED = "simulated"
_TABLES: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".jsonl": lambda table, path: table.to_json(
        path, orient="records", lines=True, double_precision=15
    ),
}


def _chat(options: Namespace) -> int:
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    identity, encoder = _identity(options), _encoder(options)
    _require_made_for(calibration, identity, encoder)
    policy = ControlPolicy(observe_only=options.observe_only, regenerations=options.regenerations)
    with (
        _model(options) as model,
        ConversationStore(None if options.store == ":memory:" else options.store) as store,
        ConversationRuntime(
            model,
            identity=identity,
            store=store,
            conversation=options.conversation,
            encoder=encoder,
            calibration=calibration,
            settings=RuntimeSettings(policy=policy, max_tokens=options.max_tokens),
        ) as runtime,
    ):
        return chat(runtime, Terminal(options.store))


def _replay(options: Namespace) -> int:
    write = _table_writer(Path(options.out))
    identity, encoder = _identity(options), _encoder(options)
    conversations = _log(Path(options.log))
    calibration = None
    if options.calibration is not None:
        calibration = load_calibration(options.calibration)
        _require_made_for(calibration, identity, encoder)
    elif options.identity_replies is not None:
        calibration = _calibrated_on_logs(options, identity, encoder)
    elif not identity.constraints:
        raise ValueError(
            "there is nothing to watch for: give --calibration, --identity-replies, or an "
            "--identity with constraints."
        )
    replayed = replay_log(conversations, calibration, encoder, constraints=identity.constraints)
    table = measurement_table(replayed)
    write(table)
    flags = [turn.flag for each in conversations for turn in each.turns]
    found = [(flag.value, flags.count(flag)) for flag in LogFlag if flag is not LogFlag.WHOLE]
    odd = "".join(f", {count} {name}" for name, count in found if count)
    alarmed = table.loc[table["alarm"], "conversation"]
    print(
        f"{len(conversations)} conversations, {len(flags)} turns{odd}; {len(alarmed)} turns in "
        f"alarm, in {alarmed.nunique()} conversations; written to {options.out}"
    )
    return 0


def _calibrate(options: Namespace) -> int:
    identity, prompts = _identity(options), _prompts(options)
    bar = tqdm(total=2 * len(prompts), desc="replies", disable=None)

    def show(count: int) -> None:
        bar.update(count - bar.n)

    with _model(options) as model, bar:
        calibration = calibrate_identity(
            model,
            identity,
            key=jax.random.key(options.seed),
            prompts=prompts,
            encoder=_encoder(options),
            max_tokens=options.max_tokens,
            false_alarm=options.false_alarm,
            horizon=options.horizon,
            progress=show,
        )
    save_calibration(options.out, calibration)
    style, content = (float(power) for power in calibration.power)
    print(
        f"{identity.name}, {len(prompts)} prompts: d' of the style {style:.2f}, of the content "
        f"{content:.2f}; {100 * calibration.provenance.simulated_rate:.1f} % of simulated "
        f"conversations alarm; written to {options.out}"
    )
    if calibration.warning is not None:
        print(f"note: {calibration.warning}", file=sys.stderr)
    return 0


def _page(options: Namespace) -> int:
    with _stored(options) as (store, conversation):
        page = conversation_page(conversation_view(store, conversation))
    write_text(options.out, page)
    print(f"{conversation!r} drawn in {options.out}")
    return 0


def _export(options: Namespace) -> int:
    with _stored(options) as (store, conversation):
        log = recorded_log(store, conversation)
    write_turns(options.out, [log])
    print(f"{len(log.turns)} turns of {conversation!r} written to {options.out}")
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "chat": _chat,
    "replay": _replay,
    "calibrate": _calibrate,
    "page": _page,
    "export": _export,
}
"""By their names: each takes its options and returns the exit status."""


@contextlib.contextmanager
def _model(options: Namespace) -> Iterator[Model]:
    if options.model == _SIMULATED:
        yield as_model(SimulatedModel(seed=options.seed))
        return
    with ChatEndpoint(
        "server",
        options.model,
        options.model_name,
        key_variable=options.key_variable,
        timeout=options.timeout,
    ) as endpoint:
        yield as_model(endpoint)


def _identity(options: Namespace) -> Identity:
    """The one in the file; without a file the simulated model's own, or nobody in particular."""
    if options.identity is not None:
        return read_identity(options.identity)
    if getattr(options, "model", None) != _SIMULATED:
        return ASSISTANT
    scenario = load_scenario()
    return Identity(
        scenario.identity_name,
        scenario.identity_description,
        scenario.constraints,
        scenario.motifs,
    )


def _encoder(options: Namespace) -> Encoder:
    if options.encoder == "minilm" or options.minilm is not None:
        return load_minilm(options.minilm)
    return HashedEncoder()


def _prompts(options: Namespace) -> Sequence[str]:
    if options.prompts is not None:
        lines = Path(options.prompts).read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    simulated = options.model == _SIMULATED
    return load_scenario().calibration_prompts if simulated else CALIBRATION_PROMPTS


def _require_made_for(
    calibration: Calibration | None, identity: Identity, encoder: Encoder
) -> None:
    if calibration is None:
        return
    made = calibration.provenance
    for name, of, given in (
        ("encoder", made.encoder, encoder.name),
        ("identity", made.identity, identity.told_digest),
    ):
        if of and of != given:
            raise ValueError(
                f"the calibration was made with another {name}, {of:.40}, not {given:.40}; give "
                f"the same with --{name}."
            )


def _log(path: Path) -> tuple[LoggedConversation, ...]:
    """The conversations of a log, or of a store."""
    if path.suffix in _TABLES:
        return read_turns(path)
    with _opened(path) as store:
        names = [name for name in store.conversations() if store.last_turn(name)]
        if not names:
            raise ValueError(f"{path} holds no turn.")
        return tuple(recorded_log(store, name) for name in names)


def _opened(path: Path) -> ConversationStore:
    """A store that is there: one that is only looked at is not made."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there.")
    return ConversationStore(path)


@contextlib.contextmanager
def _stored(options: Namespace) -> Iterator[tuple[ConversationStore, str]]:
    with _opened(Path(options.store)) as store:
        known = store.conversations()
        if options.conversation is None and len(known) != 1:
            raise ValueError(f"--conversation must be one of {', '.join(known) or 'none'}.")
        yield store, known[0] if options.conversation is None else options.conversation


def _table_writer(path: Path) -> Callable[[pd.DataFrame], object]:
    write = _TABLES.get(path.suffix)
    if write is None:
        raise ValueError(f"--out must end in {', '.join(_TABLES)}; got {path.name!r}.")
    return lambda table: write_whole(path, lambda partial: write(table, partial))


def _calibrated_on_logs(options: Namespace, identity: Identity, encoder: Encoder) -> Calibration:
    style, content, replies = log_features(_log(Path(options.identity_replies)), encoder)
    other = (None, None)
    if options.default_replies is not None:
        other = log_features(_log(Path(options.default_replies)), encoder)[:2]
    broken = np.array([violations(identity.constraints, reply) for reply in replies], bool)
    return calibrate(
        style,
        content,
        *other,
        key=jax.random.key(0),
        identity_violations=broken.reshape(len(replies), -1),
        false_alarm=options.false_alarm,
        horizon=options.horizon,
        identity=identity.told_digest,
        encoder=encoder.name,
    )
