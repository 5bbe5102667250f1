"""Execute notebooks in place and store their outputs, without anything that would differ from run to run.

The README's picture is a figure of the book; it is stored as a file too.
"""

import base64
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parent.parent / "book"
FIGURE, PICTURE = "fig-cases", BOOK / "_static" / "cases.png"


def execute(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", record_timing=False, resources={"metadata": {"path": BOOK}}
    ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == FIGURE:
            PICTURE.write_bytes(base64.b64decode(cell.outputs[0].data["image/png"]))


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")  # for the kernels: a progress bar shows times, which differ
    for path in [Path(name) for name in sys.argv[1:]] or sorted(BOOK.glob("**/*.ipynb")):
        print(path.name, flush=True)
        execute(path)
