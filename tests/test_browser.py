"""The threshold explorer in a real browser: JupyterLab started here, Debian's Chromium driven by Playwright.

With BAVIT_SCREENSHOT the picture of it for the README is written there, e.g. figures/explorer.png.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error, Locator, Page, expect, sync_playwright

from bavit_utils.config import REPO

START, CHANGE = 180_000, 60_000  # milliseconds, for a machine that is busy


@pytest.fixture(scope="module")
def chromium():
    """Its path. Debian's is installed where this may be done."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "chromium"], check=False)
        found = shutil.which("chromium")
    if not found:
        pytest.skip("needs a browser: install Chromium, on Debian with `apt-get install chromium`")
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of the notebook in a JupyterLab of its own, which leaves the user's settings alone."""
    root = tmp_path_factory.mktemp("lab")
    for path in ("notebooks/00_explore.ipynb", "figures/explorer.png"):
        if (REPO / path).exists():
            (root / path).parent.mkdir(exist_ok=True)
            shutil.copy(REPO / path, root / path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_CONFIG_HOME",
           "JUPYTERLAB_SETTINGS_DIR")  # fmt: skip
    news = root / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # nothing from the net, no question about it
    env = os.environ | {name: str(root / name) for name in own} | {"BAVIT_PROFILE": "sample"}
    options = ("ServerApp.port_retries=0", "IdentityProvider.token=secret", f"ServerApp.root_dir={root}",
               "ServerApp.allow_root=True", f"ServerApp.port={port}",
               'ServerApp.tornado_settings={"websocket_max_message_size": 104857600}')  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *(f"--{option}" for option in options)]
    with open(root / "log", "w") as log:
        server = subprocess.Popen(command, cwd=root, env=env, stdout=log, stderr=log)
    try:
        wait_for_port(port, server, root / "log")
        yield f"http://127.0.0.1:{port}/doc/tree/notebooks/00_explore.ipynb?token=secret&reset"
    finally:
        server.terminate()
        server.wait(30)


def wait_for_port(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(START // 500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()[-3000:]}"
        time.sleep(0.5)
    pytest.fail(f"JupyterLab doesn't answer:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def errors():
    """What the browser's console calls an error."""
    return []


@pytest.fixture(scope="module")
def page(chromium, lab, errors):
    """The notebook, run top to bottom."""
    with sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"{chromium} doesn't start here ({str(error).splitlines()[0]}): install it anew")
        page = browser.new_page(viewport={"width": 1080, "height": 1000}, device_scale_factor=1.5)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(lab, timeout=START)
        page.get_by_text("| Idle").wait_for(timeout=START)  # the kernel's, in the status bar
        page.get_by_role("menuitem", name="Run", exact=True).click(timeout=CHANGE)
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click(timeout=CHANGE)
        try:
            page.get_by_text("threshold 1: sparsity 0%").wait_for(timeout=START)
        except Error:
            pytest.fail(f"the notebook doesn't run:\n{page.locator('.jp-Notebook').inner_text()}")
        at_rest(page)
        yield page
        browser.close()


def at_rest(page: Page) -> None:
    expect(page.locator(".bavit-view").first).to_be_visible(timeout=START)
    expect(page.locator(".bavit-stale")).to_have_count(0, timeout=CHANGE)
    expect(page.locator(".bavit-tiles")).not_to_contain_text("…", timeout=CHANGE)


def views(page: Page) -> list[str]:
    """The sources of the four pictures: map, kept patches, and what is found on these and on all."""
    return page.locator(".bavit-view").evaluate_all("views => views.map(view => view.src)")


def tiles(page: Page) -> list[str]:
    return page.locator(".bavit-tiles b").all_inner_texts()


def threshold(page: Page) -> Locator:
    return page.locator(".bavit-explorer .noUi-handle").first


def changed(page: Page, view: int, before: list[str]) -> None:
    expect(page.locator(".bavit-view").nth(view)).not_to_have_attribute("src", before[view], timeout=CHANGE)


def choose_file(page: Page, path: Path) -> None:
    with page.expect_file_chooser(timeout=CHANGE) as opened:
        page.get_by_role("button", name="Open your own image").click()
    opened.value.set_files(path)


def screenshot(page: Page, path: Path) -> None:
    """The explorer alone, on a photograph, in few enough colours to be small; it wants a detector of photographs."""
    page.get_by_label("Pictures", exact=True).select_option("photographs")
    page.get_by_label("Picture", exact=True).select_option("214753: 4 objects")
    page.wait_for_timeout(1000)
    at_rest(page)
    page.locator(".bavit-explorer").screenshot(path=path, animations="disabled")
    Image.open(path).convert("RGB").quantize(256, kmeans=8, dither=Image.Dither.NONE).save(path, optimize=True)
    page.get_by_label("Pictures", exact=True).select_option("sample world")
    at_rest(page)


@pytest.mark.slow
def test_the_slider_is_dragged_and_pictures_numbers_and_boxes_follow(page):
    if "BAVIT_SCREENSHOT" in os.environ:
        screenshot(page, Path(os.environ["BAVIT_SCREENSHOT"]))
    threshold(page).hover()  # brings it into view, too
    before, numbers = views(page), tiles(page)
    handle = threshold(page).bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=6)
    changed(page, 1, before)  # while the button is still down
    on_the_way = views(page)
    page.mouse.move(x + 250, y, steps=10)
    changed(page, 1, on_the_way)
    page.mouse.up()
    changed(page, 0, before)
    changed(page, 2, before)
    at_rest(page)
    after = tiles(page)
    assert int(after[0][:-1]) < int(numbers[0][:-1]) and after[1:4] != numbers[1:4]
    assert all(re.match(r"\d+ ms", text) for text in after[4:6]) and after[6].isdigit()


@pytest.mark.slow
def test_the_keyboard_moves_it_too(page):
    at_rest(page)
    before, numbers = views(page), tiles(page)
    threshold(page).press("Home")
    expect(page.locator(".bavit-tiles b").first).to_have_text("100%", timeout=CHANGE)
    changed(page, 2, before)
    at_rest(page)
    assert tiles(page)[6] != numbers[6]
    threshold(page).press("End")
    expect(page.locator(".bavit-tiles b").first).to_have_text("0%", timeout=CHANGE)
    for _ in range(3):
        threshold(page).press("ArrowLeft")
    expect(page.locator(".bavit-tiles b").first).not_to_have_text("0%", timeout=CHANGE)


@pytest.mark.slow
def test_every_control_has_its_name(page):
    for name in ("Pictures", "Picture", "Model", "Resize rule"):
        assert page.locator(".bavit-explorer").get_by_label(name, exact=True).is_visible()
    page.locator(".bavit-explorer").get_by_label("Resize rule").select_option("any")
    at_rest(page)
    page.locator(".bavit-explorer").get_by_label("Resize rule").select_option("nearest")


@pytest.mark.slow
def test_an_own_picture_is_taken_and_a_broken_one_gets_a_sentence(page, tmp_path):
    at_rest(page)
    noise = np.random.default_rng(0).integers(0, 255, (90, 140, 4), dtype=np.uint8)
    Image.fromarray(noise, "RGBA").save(tmp_path / "mine.png")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "mine.png").read_bytes()[:2000])
    before = views(page)
    choose_file(page, tmp_path / "mine.png")
    for view in range(2):  # there may be no detector of photographs
        changed(page, view, before)
    expect(page.get_by_label("Picture", exact=True)).to_have_value("1: mine.png", timeout=CHANGE)
    at_rest(page)
    expect(page.locator(".bavit-tiles b").nth(1)).to_have_text("–", timeout=CHANGE)
    large = np.random.default_rng(1).integers(0, 255, (2100, 2000, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > 12e6  # more than a notebook server takes unless it is told to
    before = views(page)
    choose_file(page, tmp_path / "large.png")
    expect(page.get_by_label("Picture", exact=True)).to_have_value("2: large.png", timeout=CHANGE)
    for view in range(2):
        changed(page, view, before)
    at_rest(page)
    shown = views(page)
    choose_file(page, tmp_path / "broken.jpg")
    said = page.locator(".bavit-explorer [role=status]")
    expect(said).to_contain_text("broken.jpg is truncated or no picture", timeout=CHANGE)
    assert views(page) == shown


@pytest.mark.slow
def test_the_console_holds_no_error(page, errors):  # after all the others
    assert errors == []
