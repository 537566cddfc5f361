"""The widgets in a real browser: JupyterLab serves, Chromium steps through a notebook and moves a slider."""

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

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "browser-test"
# Messages of JupyterLab itself, or of a server without a network, that say nothing about the notebook.
HARMLESS = re.compile(r"favicon|pypi|extensionmanager|news|Failed to load resource.*(403|404)|lsp", re.I)


def find_browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)} is on the PATH")


@pytest.fixture(scope="module")
def lab(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that serves a copy of the notebooks."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(repository / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", "--LabApp.news_url="]
    # As a rule JupyterLab keeps only the cells in view in the page; here all must be there to be looked at.
    settings = home / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    command.append(f"--LabApp.user_settings_dir={home / 'settings'}")
    log = (home / "log").open("w")
    server = subprocess.Popen(command, cwd=home, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=2)
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail(f"JupyterLab did not answer in 2 minutes:\n{(home / 'log').read_text()}")
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=path, headless=True, args=["--no-sandbox", "--disable-gpu"])


def run_notebook(page, lab: str, name: str, *, seconds: int) -> None:
    """Open a notebook in the single-document view and run all its cells to the end."""
    page.goto(f"{lab}/doc/tree/notebooks/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    page.wait_for_selector("text=/Python 3.*Idle|Idle/", state="attached", timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # A running or waiting cell shows [*]; all are done when none does and the last one has a number.
    page.wait_for_function(
        """() => { const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
                   return window.sawStar ||= p.some(t => t.includes('*')), window.sawStar && !p.some(t => t.includes('*')) }""",
        timeout=seconds * 1000,
        polling=500,
    )


@pytest.mark.parametrize("name", ["00_start_here.ipynb", "04_attention.ipynb"])
def test_a_slider_changes_the_picture(lab: str, browser, name: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    run_notebook(page, lab, name, seconds=300)
    assert not page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count()
    slider = page.locator(".jupyter-widgets.widget-slider .noUi-handle").first
    slider.scroll_into_view_if_needed(timeout=60_000)
    picture = page.locator("img.jupyter-widgets.widget-image").first
    before = picture.get_attribute("src")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([img, old]) => img.src !== old", arg=[picture.element_handle(), before], timeout=60_000
    )
    picture.scroll_into_view_if_needed()
    page.screenshot(path=str(tmp_path / "after.png"))
    serious = [text for text in errors if not HARMLESS.search(text)]
    assert not serious, serious
    page.close()
