"""Execute notebooks headless and store their outputs: `python -m helpers notebooks [notebooks/03*.ipynb …]`.

nbclient does the work. Added here: a progress bar over the cells, the kernel of this very Python, no time stamps in
the file, saved widget state. A notebook that fails keeps the outputs it had.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.data.files import REPOSITORY, write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode


class NotebookError(RuntimeError):
    """A notebook that does not run to its end; the message names the notebook, the cell and the error."""


def execute(
    path: Path | str, *, cell_timeout: int = 300, on_cell: Callable[[], object] = lambda: None
) -> NotebookNode:
    """The notebook in file `path`, executed top to bottom in its folder; the file itself is not changed.

    cell_timeout: seconds that one cell may take. on_cell: called without arguments after every code cell.

    Raises NotebookError where a cell fails, takes too long or kills the kernel.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)  # nothing of an earlier run stays
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(
                kernel_name="python3",
                # Without folders of kernels the native one is used, which is this Python: a kernel called "python3"
                # in the home folder cannot replace it.
                kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
                connection_file=str(Path(scratch, "kernel.json")),
                transport="tcp" if os.name == "nt" else "ipc",  # a file in `scratch`, not an open port
            ),
            timeout=cell_timeout,
            record_timing=False,
            store_widget_state=True,
            resources={"metadata": {"path": str(path.resolve().parent)}},
            on_cell_executed=lambda **_: on_cell(),
        )
        # The `helpers` beside this file first, no IPython profile, the kernel's own matplotlib backend.
        environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
        paths = os.pathsep.join(filter(None, [str(REPOSITORY), environment.get("PYTHONPATH")]))
        try:
            client.execute(env=environment | {"IPYTHONDIR": scratch, "PYTHONPATH": paths}, cleanup_kc=True)
        except (CellExecutionError, CellControlSignal, DeadKernelError) as error:
            done = sum(cell.execution_count is not None for cell in _code_cells(notebook))
            raise NotebookError(
                f"{path.name} stops at its code cell {max(done, 1)}:\n{error}\nOpen it in JupyterLab and run it "
                "from the top to see it happen; the outputs in the file are the old ones."
            ) from error
        except AssertionError:
            if client.km is None:  # after Ctrl-C nbclient shuts the kernel down and then misses it itself
                raise KeyboardInterrupt from None
            raise
    # What differs from machine to machine gets one value.
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def run(paths: list[Path], *, cell_timeout: int = 300) -> list[NotebookError]:
    """Execute notebooks one after the other; write each one back, in one step, when it finishes. Returns what failed."""
    import nbformat
    from tqdm import tqdm

    cells = [len(_code_cells(nbformat.read(path, as_version=4))) for path in paths]
    failures = []
    with tqdm(total=sum(cells), unit="cell", dynamic_ncols=True) as bar:
        for number, path in enumerate(paths, start=1):
            bar.set_description(path.stem)
            started = time.perf_counter()
            try:
                notebook = execute(path, cell_timeout=cell_timeout, on_cell=bar.update)
            except NotebookError as error:
                failures.append(error)
                bar.write(f"{path.name}: FAILED", file=sys.stderr)
                bar.update(sum(cells[:number]) - bar.n)
                continue
            write_text(path, nbformat.writes(notebook) + "\n")
            bar.write(f"{path.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return failures


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when every notebook ran."""
    parser = argparse.ArgumentParser(prog="python -m helpers notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/, in their order")
    parser.add_argument(
        "--cell-timeout", type=int, default=300, metavar="SECONDS", help="for one cell (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    if not paths:
        parser.error("there is no notebook in notebooks/")
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    try:
        failures = run(paths, cell_timeout=options.cell_timeout)
    except KeyboardInterrupt:
        print("\ninterrupted: the notebooks that had not finished keep their outputs", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0
