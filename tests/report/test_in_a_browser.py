"""The page in a real browser: no errors, tables sort, sliders move, both colour schemes, print."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-headless-shell", "google-chrome", "google-chrome-stable", "chrome", "chromium-browser")
PATIENCE_MS = 120_000  # a busy machine


@pytest.fixture(scope="module")
def browser():
    library = pytest.importorskip("playwright.sync_api", reason="the browser test needs: pip install playwright")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with library.sync_playwright() as playwright:
        executable = found or playwright.chromium.executable_path
        if not os.path.exists(executable):
            pytest.skip("no Chromium: install one, or run playwright install chromium, or set CHROMIUM to its path")
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def opened(browser, page, tmp_path_factory):
    """The page in a tab, and what the browser had to say about it."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    tab.set_default_timeout(PATIENCE_MS)
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.messages, tab.requests = said, asked
    return tab


def column(tab, table, number):
    return tab.eval_on_selector_all(
        f'[aria-label="{table}"] tbody tr', f"rows => rows.map(row => row.cells[{number}].textContent)"
    )


def test_opens_without_errors_and_asks_for_nothing(opened):
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_click_and_keyboard_sort_a_table(opened):
    name = "Results per held-out case"
    head = opened.locator(f'[aria-label="{name}"] th', has_text="Dice mean").first
    head.locator("button").click()
    values = [float(text) for text in column(opened, name, 7)]
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert [float(text) for text in column(opened, name, 7)] == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_what_is_missing_sorts_last_in_both_directions(opened):
    name = "Results per class"
    button = opened.locator(f'[aria-label="{name}"] th button', has_text="against nnU-Net")
    for _ in range(2):
        button.click()
        texts = column(opened, name, 5)
        missing = [text == "\u2013" for text in texts]
        assert 0 < sum(missing) < len(missing)
        assert missing == sorted(missing)


def test_filter_leaves_the_rows_with_all_words(opened):
    block = opened.locator(".table-block", has=opened.locator('[aria-label="Results per held-out case"]'))
    block.locator("input[type=search]").fill("q1_frame02 semisam")
    assert block.locator("tbody tr:visible").count() == 4  # two budgets, two seeds
    assert block.locator("output").inner_text() == "4 of 96 rows"
    block.locator("input[type=search]").fill("")
    assert block.locator("tbody tr:visible").count() == 96


def test_slider_and_arrow_keys_move_all_panes(opened):
    viewer = opened.locator(".viewer").first
    slider, output = viewer.locator("input[type=range]"), viewer.locator(".slices output")
    places = "layers => layers.map(layer => getComputedStyle(layer).backgroundPositionY)"
    slider.fill("0")
    assert output.inner_text() == "1"
    first = viewer.locator(".layer").evaluate_all(places)
    slider.press("ArrowRight")
    assert output.inner_text() == "2"
    second = viewer.locator(".layer").evaluate_all(places)
    assert len(set(first)) == len(set(second)) == 1
    assert first != second
    viewer.locator(".toggle").press("ArrowRight")  # anywhere in the viewer
    assert output.inner_text() == "3"
    viewer.locator(".panes").click()
    opened.keyboard.press("ArrowLeft")
    assert output.inner_text() == "2"


def test_masks_can_be_hidden_and_pictures_are_there(opened):
    viewer = opened.locator(".viewer").first
    assert viewer.locator(".mask").first.is_visible()
    viewer.locator(".toggle").uncheck()
    assert not viewer.locator(".mask").first.is_visible()
    viewer.locator(".toggle").check()
    sizes = opened.evaluate(
        """() => Promise.all([...document.querySelectorAll('.layer')].map(async (layer) => {
            const image = new Image();
            image.src = getComputedStyle(layer).backgroundImage.slice(5, -2);
            await image.decode();
            return image.naturalWidth * image.naturalHeight;
        }))"""
    )
    assert len(sizes) > 20
    assert min(sizes) > 0


def test_dark_and_light_differ_and_print_is_light_with_all_parts_open(opened):
    color = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(color)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(color)
    opened.emulate_media(color_scheme="dark", media="print")
    assert opened.evaluate(color) == "rgb(255, 255, 255)"
    assert light != dark
    opened.set_viewport_size({"width": 1030, "height": 700})  # A4, landscape
    assert opened.evaluate("[...document.querySelectorAll('table')].every(t => t.scrollWidth <= innerWidth)")
    opened.set_viewport_size({"width": 1280, "height": 900})
    opened.emulate_media(color_scheme="light", media="screen")
    closed = opened.locator("details:not([open])").count()
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("details:not([open])").count() == closed > 0


def test_no_message_came_up_meanwhile(opened):
    assert opened.messages == []
