"""Views in a real browser: JupyterLab serves a clean copy, Chromium runs a notebook and works its controls.

Nothing is waited for by a fixed time: the page is asked what it has reached, and the time limits are only for a run
that never gets there.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
nbformat = pytest.importorskip("nbformat", reason="the browser tests need Jupyter's packages")
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "browser-test"
# Limits for a machine that is busy with other things; an idle one needs a minute for everything here.
RUN, STEP = 300, 120  # seconds: a whole notebook, anything else

# The notebook in view, as JupyterLab's own objects have it. The page shows only the cells that are scrolled to.
PANEL = "jupyterapp.shell.currentWidget"
OPENED = f"window.jupyterapp?.shell.currentWidget?.context?.isReady && {PANEL}.sessionContext.isReady"
IDLE = f"(k => k?.connectionStatus === 'connected' && k.status === 'idle')({PANEL}.sessionContext.session?.kernel)"
RUN_ALL = """() => {
    window.finished = false;
    jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.finished = true; });
}"""
CODE_CELLS = f"""() => {PANEL}.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim())
    .map(cell => [cell.model.executionCount, cell.model.outputs.toJSON()
        .filter(output => output.output_type === 'error').map(error => `${{error.ename}}: ${{error.evalue}}`)])"""
CELL_WITH = f"text => {PANEL}.content.widgets.findIndex(cell => cell.model.sharedModel.source.includes(text))"
SCROLL_TO = f"index => {PANEL}.content.scrollToItem(index, 'start')"
SHUT_DOWN = f"() => {PANEL}.sessionContext.shutdown()"
PIXELS = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())].join()"
DRAWN_AGAIN = "([image, before]) => image.src !== before && image.complete && image.naturalWidth > 0"


def find_browser() -> str:
    """The program of a browser that Playwright drives; skips, saying what it looked for, where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"there is no browser on this machine: none of {', '.join(BROWSERS)} is on the PATH")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = find_browser()
    with playwright.sync_playwright() as p:
        # Chromium's own sandbox does not start for root or in a container; the pages are ours.
        opened = p.chromium.launch(executable_path=program, headless=True, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def lab(browser, clone: Path, offline: dict[str, str], tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that serves a clean copy of the course, with the settings of `make lab`."""
    home, log = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("log") / "jupyterlab"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": clone,
        "IdentityProvider.token": TOKEN,
        "LanguageServerManager.autodetect": False,
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    folders = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = offline | folders | {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(clone)}
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for_server(f"{address}/api/status?token={TOKEN}", server, log)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(STEP)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_server(url: str, server: subprocess.Popen, log: Path) -> None:
    """Returns when `url` answers; fails with the server's log where it ends before, or takes too long."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + STEP
    while time.monotonic() < until and server.poll() is None:
        try:
            direct.open(url, timeout=10).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text(errors='replace')[-4000:]}")


class Visit:
    """A page of JupyterLab with one notebook open.

    problems: what the page complained of so far: errors in its console, requests that failed or left the machine.
    There is no list of messages to overlook: JupyterLab and the widgets leave none.
    """

    def __init__(self, browser: Any, lab: str, notebook: str) -> None:
        self.lab, self.problems = lab, []
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(1000 * STEP)
        self.page.on("console", self._message)
        self.page.on("pageerror", lambda error: self.problems.append(f"the page raised {error}"))
        self.page.on("request", self._request)
        self.page.goto(f"{lab}/lab/tree/notebooks/{notebook}?token={TOKEN}&reset")
        self.page.wait_for_function(OPENED)
        self.page.wait_for_function(IDLE)

    def _message(self, message: Any) -> None:
        if message.type == "error":
            where = (message.location or {}).get("url", "")
            self.problems.append(f"the console shows {message.text!r} {where}".strip())

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.lab}/", "data:", "blob:")):
            self.problems.append(f"the page asked for {request.url}, which is not on this machine")

    def run(self) -> list[str]:
        """Run all cells; returns which of them did not run or ended in an error."""
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("window.finished", timeout=1000 * RUN)
        found = []
        for number, (count, errors) in enumerate(self.page.evaluate(CODE_CELLS), start=1):
            found += [f"code cell {number} ends in {error}" for error in errors]
            if count != number:
                found.append(f"code cell {number} has the count {count}")
        return found

    def cell(self, text: str) -> Any:
        """The cell whose source has `text` in it, scrolled into view."""
        index = self.page.evaluate(CELL_WITH, text)
        assert index >= 0, f"no cell has {text!r} in it"
        self.page.evaluate(SCROLL_TO, index)
        return self.page.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def redrawn(self, cell: Any, act: Any, *, seconds: float = STEP) -> tuple[str, str]:
        """Do something in a cell and wait for its widget's picture to be drawn anew: its pixels before and after."""
        picture = cell.locator("img.widget-image")
        before, pixels = picture.get_attribute("src"), picture.evaluate(PIXELS)
        act()
        known = [picture.element_handle(), before]
        self.page.wait_for_function(DRAWN_AGAIN, arg=known, timeout=1000 * seconds)
        return pixels, picture.evaluate(PIXELS)

    def press(self, cell: Any, slider: str, key: str) -> Any:
        """What `redrawn` needs to move the slider with this description by the keyboard."""
        handle = cell.locator(".widget-slider").filter(has_text=slider).locator(".noUi-handle").last

        def act() -> None:
            handle.focus()
            self.page.keyboard.press(key)

        return act

    def close(self) -> None:
        self.page.evaluate(SHUT_DOWN)
        self.page.close(run_before_unload=False)


@pytest.fixture
def visit(browser, lab: str, clone: Path) -> Iterator[Any]:
    """Opens a notebook under a name of its own: JupyterLab saves by itself, and the copy is for other tests, too."""
    visits, paths = [], []

    def opened(notebook: Any) -> Visit:
        paths.append(clone / "notebooks" / f"browser_{len(paths)}.ipynb")
        nbformat.write(notebook, paths[-1])
        visits.append(Visit(browser, lab, paths[-1].name))
        return visits[-1]

    yield opened
    for one in visits:
        one.close()
    for path in paths:
        path.unlink()


VIEWS = """
import tempfile
from pathlib import Path

import torch
from IPython.display import display
from PIL import Image

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.systems.registry import build
from lessons import nb04 as lesson

torch.manual_seed(3)
vocabulary = Vocabulary(("bird", "cat", "dog", "elk", "fox"))
sizes = {"hidden_size": 6, "attention_size": 4, "embedding_size": 3}
system = build("attention", vocabulary, 8, max_labels=4, **sizes).eval()
with torch.no_grad():  # sure of something, and not of <stop> at once
    for name, parameter in system.decoder.named_parameters():
        if name.startswith(("from_", "scores")):
            parameter.mul_(4)
    system.decoder.scores.bias[5] = -2.0
folder = Path(tempfile.mkdtemp())
for i in range(3):
    Image.new("RGB", (40, 30), (60 * i, 90, 90)).save(folder / f"{i}.png")
records = [Record(folder / f"{i}.png", ("bird", "cat")) for i in range(3)]
grid = torch.randn(3, 12, 8)
shown = lesson.Examples(system, records, Features(grid.mean(1), grid), (3, 4))
"""


def test_the_views_of_a_lesson_work(visit, notebook_of) -> None:
    """Two views of a small system: what they show of a trained one is seen where the notebook is executed."""
    views = ("attention_stepper(", "attention_painter(")
    here = visit(notebook_of(VIEWS, *(f"display(lesson.{view}shown))" for view in views)))
    assert here.run() == []

    cell = here.cell("attention_stepper(")
    first, second = here.redrawn(cell, here.press(cell, "Step", "ArrowRight"))
    assert first != second, "the slider shows another step"
    assert cell.get_by_text("Step 2 of").count(), "what stands above the picture is of that step"
    _, again = here.redrawn(cell, here.press(cell, "Step", "ArrowLeft"))
    assert again == first, "the way back shows the first step as it was"
    steps = re.search(r"Step 1 of (\d+)", cell.inner_text())[1]
    here.redrawn(cell, cell.locator(".widget-play button").first.click)
    cell.get_by_text(f"Step {steps} of {steps}").wait_for()  # the play button goes on to the end

    cell = here.cell("attention_painter(")
    before, after = here.redrawn(cell, here.press(cell, "Columns", "ArrowRight"))
    assert before != after
    assert here.problems == []


WIDGET = """
import io
import ipywidgets
from IPython.display import Javascript, display
from PIL import Image

slider, picture = ipywidgets.IntSlider(description="Number"), ipywidgets.Image(format="png")

def draw(change=None):
    png = io.BytesIO()
    Image.new("L", (64, 64), slider.value).save(png, "PNG")
    picture.value = png.getvalue()

draw()
display(ipywidgets.VBox([slider, picture]))
"""


@pytest.fixture
def notebook_of():
    """Makes a notebook of some code cells."""

    def make(*sources: str) -> Any:
        cells = [new_markdown_cell("# T"), *map(new_code_cell, sources)]
        # Without the name of a kernel JupyterLab would ask for one, in a dialog.
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        return new_notebook(cells=cells, metadata={"kernelspec": kernel})

    return make


def test_a_cell_that_raises_is_seen(visit, notebook_of) -> None:
    assert visit(notebook_of(WIDGET, "1 / 0")).run() == [
        "code cell 2 ends in ZeroDivisionError: division by zero"
    ]


def test_an_error_in_the_console_is_seen(visit, notebook_of) -> None:
    here = visit(
        notebook_of(
            WIDGET, 'display(Javascript(\'console.error("broken"); fetch("http://example.invalid")\'))'
        )
    )
    assert here.run() == []
    assert any("broken" in problem for problem in here.problems), here.problems
    assert any("not on this machine" in problem for problem in here.problems), here.problems


@pytest.mark.parametrize("connected", [True, False])
def test_a_slider_that_does_nothing_is_seen(visit, notebook_of, connected: bool) -> None:
    here = visit(notebook_of(WIDGET, "slider.observe(draw, names='value')" if connected else "pass"))
    assert here.run() == []
    cell = here.cell("ipywidgets.IntSlider")
    move = here.press(cell, "Number", "ArrowRight")
    if connected:
        before, after = here.redrawn(cell, move)
        assert before != after
    else:
        with pytest.raises(playwright.TimeoutError):
            here.redrawn(cell, move, seconds=5)
        assert cell.locator(".widget-readout").inner_text() == "1", "it did move"
    assert here.problems == []
