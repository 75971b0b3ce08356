"""The page in a real browser: no errors, tables sort, sliders move, both colour schemes, print."""

import csv
import os
import re
import shutil
from xml.etree import ElementTree

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
    slider, output = viewer.locator(".slices input"), viewer.locator(".slices output")
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


def drawn(tab, pane):
    """Return how many pixels of a mask of the first viewer are faint, full and white, as it is drawn now."""
    return tab.evaluate(
        """(pane) => {
            const canvas = document.querySelectorAll(".viewer .mask canvas")[pane];
            const copy = document.createElement("canvas");
            [copy.width, copy.height] = [canvas.width, canvas.height];
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            let faint = 0, full = 0, white = 0;
            for (let i = 0; i < data.length; i += 4) {
                if (data[i + 3] === 255) full++; else if (data[i + 3] > 0) faint++;
                if (data[i + 3] === 255 && data[i] + data[i + 1] + data[i + 2] === 765) white++;
            }
            return [faint, full, white];
        }""",
        pane,
    )


def test_labels_opacity_contours_and_ground_truth_change_how_masks_are_drawn(opened):
    viewer = opened.locator(".viewer").first
    viewer.locator(".contours").check()
    opened.wait_for_selector(".viewer .mask canvas")
    faint, contours, white = drawn(opened, 1)
    assert (faint, white) == (0, 0)
    assert contours > 0
    viewer.locator(".truth").check()
    assert drawn(opened, 1)[2] > 0
    assert drawn(opened, 0)[2] == 0, "the ground truth itself keeps its colours"
    viewer.locator(".truth").uncheck()
    every = drawn(opened, 0)[1]
    viewer.locator(".label").first.uncheck()
    assert 0 < drawn(opened, 0)[1] < every
    for box in viewer.locator(".label").all():
        box.uncheck()
    assert drawn(opened, 0) == drawn(opened, 1) == [0, 0, 0]
    for box in viewer.locator(".label").all():
        box.check()
    viewer.locator(".contours").uncheck()
    assert drawn(opened, 1)[0] > 0
    viewer.locator(".opacity").fill("100")
    assert drawn(opened, 1)[0] == 0, "filled fully"


def test_wheel_pages_where_somebody_works_and_zooms_with_control(opened):
    viewer = opened.locator(".viewer").first
    slider, panes = viewer.locator(".slices input"), viewer.locator(".panes")
    slider.fill("0")
    panes.click()
    panes.hover()
    opened.mouse.wheel(0, -100)
    opened.wait_for_function("document.querySelector('.viewer .slices input').value === '1'")
    zoom = "getComputedStyle(document.querySelector('.viewer .panes')).getPropertyValue('--z')"
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -100)
    opened.keyboard.up("Control")
    opened.wait_for_function(f"{zoom} === '1.25'")
    viewer.locator(".zoom-in").click()
    assert opened.evaluate(zoom) == "1.5625"
    viewer.locator(".zoom-reset").click()
    assert opened.evaluate(zoom) == "1"


def test_cases_in_the_table_lead_to_their_viewers_and_back(opened):
    links = opened.eval_on_selector_all("#tables td a", "found => found.map(a => a.getAttribute('href'))")
    viewers = opened.eval_on_selector_all(".viewer", "found => found.map(v => '#' + v.id)")
    assert set(links) == set(viewers)
    opened.locator(".viewer button.rows").first.click()
    name = opened.locator(".viewer button.rows").first.get_attribute("data-case")
    assert set(column(opened, "Results per held-out case", 0)) > {name}
    shown = opened.locator('[aria-label="Results per held-out case"] tbody tr:visible td:first-child').all_inner_texts()
    assert set(shown) == {name}
    opened.locator("#tables input[type=search]").fill("")


def test_figures_and_tables_are_saved_as_they_are_shown(opened, tmp_path):
    def saved(block, kind):
        with opened.expect_download() as download:
            block.locator(".downloads button", has_text=kind).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path

    figure = opened.locator("figure.chart").nth(1)
    drawing = ElementTree.parse(saved(figure, "SVG")).getroot()
    assert "nnU-Net" in "".join(drawing.itertext()), "with its legend"
    assert saved(figure, "PNG").read_bytes().startswith(b"\x89PNG")
    block = opened.locator(".table-block", has=opened.locator('[aria-label="Results per held-out case"]'))
    block.locator("input[type=search]").fill("q1_frame02 semisam")
    rows = list(csv.reader(saved(block, "CSV").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 1 + 4
    assert rows[0][0] == "case"
    assert {row[0] for row in rows[1:]} == {"q1_frame02"}
    text = saved(block, "LaTeX").read_text()
    assert text.count(r"q1\_frame02") == 4
    assert text.count(r"\\") == 1 + 4
    block.locator("input[type=search]").fill("")


def test_the_first_column_stays_in_view(opened):
    opened.set_viewport_size({"width": 420, "height": 800})
    place = """() => {
        const region = document.querySelector('[aria-label="Results per class"]');
        region.scrollLeft = 300;
        return region.querySelector("tbody td").getBoundingClientRect().left - region.getBoundingClientRect().left;
    }"""
    assert abs(opened.evaluate(place)) < 3
    opened.set_viewport_size({"width": 1280, "height": 900})


def test_print_is_a_summary_of_four_pages_unless_all_is_asked_for(opened):
    opened.reload()  # what other tests opened would be printed, too

    def pages():
        return len(re.findall(rb"/Type\s*/Page[^s]", opened.pdf(prefer_css_page_size=True)))

    assert pages() <= 4
    opened.emulate_media(media="print")
    assert not opened.locator("#tables").is_visible()
    opened.emulate_media(media="screen")
    opened.locator("#print-all").check()
    opened.emulate_media(media="print")
    assert opened.locator("#tables").is_visible()
    opened.emulate_media(media="screen")
    opened.locator("#print-all").uncheck()


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
    opened.locator("#print-all").check()
    closed = opened.locator("details:not([open])").count()
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("details:not([open])").count() == closed > 0
    opened.locator("#print-all").uncheck()


def test_no_message_came_up_meanwhile(opened):
    assert opened.messages == []
