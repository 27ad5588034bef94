"""`python -m sigma_jax.runtime`: chat, replay a log, calibrate, export, and draw a page."""

import argparse
import sys
from collections.abc import Sequence

_DEFAULT = "(default: %(default)s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 with a line on standard error if it cannot be done."""
    options = _parser().parse_args(arguments)
    from .models import ModelFailure
    from .programs import COMMANDS
    from .store_file import StoreError

    try:
        return COMMANDS[options.command](options)
    except (OSError, ValueError, StoreError, ModelFailure) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sigma_jax.runtime",
        description="Conversations that hold their shape: a loop around any language model.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_chat(commands)
    _add_replay(commands)
    _add_calibrate(commands)
    _add_page(commands)
    _add_export(commands)
    return parser


def _add_chat(commands: argparse._SubParsersAction) -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a model in the terminal",
        description="Talk to a model, with the conversation's state beside every reply. The "
        "conversation is kept after every turn, and the same command goes on with it.",
    )
    _add_model(chat)
    _add_identity(chat)
    _add_encoder(chat)
    add = chat.add_argument
    add("--calibration", metavar="FILE", help="of the model and identity, made by `calibrate`")
    add(
        "--store",
        metavar="FILE",
        default="conversations.db",
        help=f"where conversations are kept; :memory: keeps nothing {_DEFAULT}",
    )
    add("--conversation", metavar="ID", default="chat", help=f"its name there {_DEFAULT}")
    add("--observe-only", action="store_true", help="plan corrections and make none")
    add(
        "--regenerations",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="further replies asked for where one cannot stand; with 0 a reply is seen as it is "
        f"written {_DEFAULT}",
    )


def _add_replay(commands: argparse._SubParsersAction) -> None:
    replay = commands.add_parser(
        "replay",
        help="put recorded conversations through the monitor",
        description="Put the conversations of a log through the monitor, and write a row a turn. "
        "A log has a line a turn with the columns conversation (may be left out), turn or cycle, "
        "user or user_input, reply or response.",
    )
    add = replay.add_argument
    add("log", metavar="LOG", help="a .jsonl, .csv or .parquet log, or a store of conversations")
    add("--out", required=True, metavar="FILE", help="a .csv, .parquet or .jsonl file")
    known = replay.add_mutually_exclusive_group()
    known.add_argument("--calibration", metavar="FILE", help="made by `calibrate`")
    known.add_argument(
        "--identity-replies",
        metavar="LOG",
        help="calibrate on this log of replies with the identity instead",
    )
    add("--default-replies", metavar="LOG", help="and on this one of replies without it")
    _add_identity(replay)
    _add_encoder(replay)
    _add_limits(replay)


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="learn what a model's replies look like with an identity and without",
        description="Ask a model every prompt twice, with the identity and without it, and set "
        "the monitor's limits from that.",
    )
    _add_model(calibrate)
    _add_identity(calibrate)
    _add_encoder(calibrate)
    _add_limits(calibrate)
    add = calibrate.add_argument
    add("--out", required=True, metavar="FILE", help="the calibration")
    add("--prompts", metavar="FILE", help="one a line; twenty everyday questions unless given")


def _add_page(commands: argparse._SubParsersAction) -> None:
    page = commands.add_parser(
        "page",
        help="draw a conversation as one HTML file",
        description="Draw a conversation as one HTML file, which needs no network.",
    )
    _add_stored(page)
    page.add_argument("--out", required=True, metavar="FILE", help="the .html file")


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export",
        help="write a conversation as a log",
        description="Write a conversation as a log that `replay` reads.",
    )
    _add_stored(export)
    export.add_argument(
        "--out", required=True, metavar="FILE", help="a .jsonl, .csv or .parquet file"
    )


def _add_stored(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="where conversations are kept")
    parser.add_argument(
        "--conversation", metavar="ID", help="its name there; not needed where there is one"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="URL",
        help="a server of OpenAI's chat completions, or `simulated`: a model that needs no network",
    )
    add("--model-name", default="default", help=f"what the server calls it {_DEFAULT}")
    add("--key-variable", metavar="NAME", help="the environment variable that holds the key")
    add("--timeout", type=float, default=120.0, help=f"seconds for a reply {_DEFAULT}")
    add("--max-tokens", type=int, default=512, help=f"of a reply {_DEFAULT}")
    add("--seed", type=int, default=0, help=f"of all that is drawn {_DEFAULT}")


def _add_identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--identity",
        metavar="FILE",
        help="who the model is to be, in JSON: name, description, constraints",
    )


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        choices=("hashed", "minilm"),
        default="hashed",
        help=f"of texts; minilm needs its package, or --minilm {_DEFAULT}",
    )
    parser.add_argument("--minilm", metavar="DIRECTORY", help="that holds MiniLM's weights")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--false-alarm",
        type=float,
        default=0.05,
        help=f"the share of conversations that may alarm without cause {_DEFAULT}",
    )
    add("--horizon", type=int, default=200, help=f"turns of such a conversation {_DEFAULT}")


if __name__ == "__main__":
    sys.exit(main())
