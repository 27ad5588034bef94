"""The model that travels with the package."""

from importlib import resources
from pathlib import Path


def kernel_mini_directory() -> Path:
    """Where kernel-mini is: a small Ouro, trained on SCAN, as a Hugging Face directory.

    `load_model` and `load_tokenizer` read it; its `README.md` says what it can do. It was made by
    `python -m experiments.train_kernel`.

    **Raises** `FileNotFoundError` if the package was installed without it.
    """
    directory = Path(str(resources.files(__name__.rpartition(".")[0]) / "data" / "kernel_mini"))
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} holds no model: the package lacks its data.")
    return directory
