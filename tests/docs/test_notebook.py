"""The notebook runs, top to bottom, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "arc.ipynb"


@pytest.mark.slow
# Jupyter's own libraries warn of their future; none of it is ours to mend.
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_and_tells_its_story():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    text = "\n".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "targeted  depth 0.98" in text
    assert "coherence 0.4375" in text
    assert "hysteretic  largest gap 0.7" in text
