"""The models that travel with the package."""

from importlib import resources
from pathlib import Path

EMBEDDED = {"kernel-mini": "kernel_mini", "kernel-mini-2": "kernel_mini_2"}
"""Names and folders."""


def kernel_mini_directory(name: str = "kernel-mini") -> Path:
    """Where kernel-mini is: a small Ouro, trained on SCAN, as a Hugging Face directory.

    `load_model` and `load_tokenizer` read it; its `README.md` says what it can do. It was made by
    `python -m experiments.train_kernel`.

    **Arguments:** `name`, `kernel-mini`, or `kernel-mini-2` for the same recipe from another seed,
    with which it shares nothing but the tokenizer.

    **Raises** `ValueError` for another name, `FileNotFoundError` if the package was installed
    without it.
    """
    if name not in EMBEDDED:
        raise ValueError(f"name must be one of {', '.join(EMBEDDED)}; got {name!r}.")
    data = Path(str(resources.files(__name__.rpartition(".")[0]) / "data"))
    directory = data / EMBEDDED[name]
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} holds no model: the package lacks its data.")
    return directory
