# SPDX-License-Identifier: Apache-2.0
"""Tests the page as text, and as rendered by Chromium if it is installed."""

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from learn2compress.report.page import render_report
from learn2compress.schemas.manifests import FloatFallback
from learn2compress.schemas.reports import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Parses a page into its elements, and checks that every element is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def html(sample):
    return render_report(*sample)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_report_page_shows_the_chosen_file_and_the_reason(page, sample):
    report, _ = sample
    text = " ".join(" ".join(page.text).split())
    chosen = next(c for c in report.evaluation.candidates if c.name == report.choice.chosen)
    assert f"Chosen: {chosen.name}" in text
    assert "The most accurate of 3 that satisfy max_size 100 KB" in text
    assert "Next: change what limits the accuracy and run the same command again; or copy bundle.zip" in text
    assert "or see with learn2compress pick OUT which of the measured files other limits would choose" in text
    assert f"{100 * chosen.figures['test'].top1:.1f} %" in text
    assert chosen.sha256 in text
    for verdict in report.choice.verdicts:
        assert verdict.candidate in text
    assert "12.9 KB over max_size (100 KB)" in text
    assert "30 epochs of distillation, 6 of pruning and 4 of quantization, in 61 min" in text


def test_report_page_ranks_layers_by_quantization_error(page):
    text = " ".join(" ".join(page.text).split())
    for student in ("small", "medium", "large"):
        error = "17.2 dB; predicted class changed on 4.7 % of 64 training images"
        assert f"{student}-int8: SQNR of the logits with all layers quantized: {error}" in text
    assert "trunk2_1_dw DEPTHWISE_CONV_2D 17.4 dB 0.0 % 43.2 dB 0.18 rounded output" in text
    assert text.index("trunk2_1_dw DEPTHWISE_CONV_2D") < text.index("trunk2_1_pw CONV_2D 33.7 dB")
    assert "flatten RESHAPE no error 0.0 % no error 0.00 rounded weights" in text
    assert "Teacher resnet56_cifar10.h5 cannot be converted to dynamic" in text
    opened = [attributes for attributes in page.all("details") if "open" in attributes]
    assert len(opened) == 1


def test_report_page_does_not_call_a_file_with_float_fallback_full_int8(sample):
    report, thumbnails = sample
    rescue = FloatFallback(
        model="medium-int8",
        layers=["trunk2_1_dw", "trunk2_1_pw"],
        bytes_added=9_300,
        images=1000,
        float32_accuracy=0.868,
        int8_accuracy=0.71,
        accuracy=0.861,
    )
    update = {"rescue": rescue, "full_int8": False, "variant": "int8-rescued"}
    candidates = [
        c.model_copy(update=update) if c.name == report.choice.chosen else c for c in report.evaluation.candidates
    ]
    evaluation = report.evaluation.model_copy(update={"candidates": candidates})
    text = Page(render_report(report.model_copy(update={"evaluation": evaluation}), thumbnails)).text
    text = " ".join(" ".join(text).split())
    fallback = (
        "int8, 2 layers in float: trunk2_1_dw, trunk2_1_pw. The file is 9.3 KB larger than medium-int8 and gains "
        "15.1 points on 1,000 validation images, where float32 reaches 86.8 %."
    )
    assert f"The file is not full int8, but {fallback}" in text
    assert text.count(fallback) == 2
    assert "The file is full int8" not in text


def test_report_page_draws_the_curves_of_a_jointly_trained_teacher(sample, html):
    report, thumbnails = sample
    taught = [
        epoch.model_copy(update={"teacher_accuracy": 0.9 + epoch.epoch / 1000, "teacher_loss": 0.5})
        if epoch.stage == "distilled"
        else epoch
        for epoch in report.curves
    ]

    joint = render_report(report.model_copy(update={"curves": taught}), thumbnails)

    def curves(text: str) -> dict:
        return json.loads(re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL)[1])["curves"]

    assert curves(joint)["teacher"] == {
        "accuracy": [round(90 + epoch / 10, 4) for epoch in range(1, 31)] + [None] * 10,
        "loss": [0.5] * 30 + [None] * 10,
    }
    assert joint.count("by epoch of small, medium, large and the teacher.") == 2
    assert "teacher" not in curves(html)
    assert html.count("by epoch of small, medium, large.") == 2


def test_report_page_needs_no_network(html, page):
    own = re.sub(r'<script type="text/plain" id="packed-plotly">.*?</script>', "", html, flags=re.DOTALL)
    assert "http://" not in own
    assert "https://" not in own
    assert all(link["href"].startswith(("#", "data:")) for tag in ("a", "link") for link in page.all(tag))
    assert all("src" not in script for script in page.all("script"))
    assert all(
        image.get("src", "data:").startswith("data:image/png;base64,") for image in page.all("img") if "src" in image
    )
    assert len(html) < 5_000_000


def test_report_page_is_accessible_to_screen_readers(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    plots = [div for div in page.all("div") if "data-plot" in div or "data-curve" in div]
    assert len(plots) == 5
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert all("tabindex" in div for div in page.all("div") if div.get("class") == "scroll")
    labels = {label["for"] for label in page.all("label")}
    assert all(select["id"] in labels for select in page.all("select"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_report_page_shows_the_sensitivity_of_layers(page):
    text = " ".join(" ".join(page.text).split())
    assert "on 256 validation images" in text
    assert "trunk1_1_pw small, medium, large" in text
    # The most sensitive layer (2.5 · 0.75³ - 0.004); a layer whose accuracy rose by 0.002; a layer that stays dense.
    assert re.search(r"trunk1_1_pw small, medium, large [\d,]+ 3\.5 30\.9 105\.1 0\.2 50%", text)
    assert re.search(r"large_logits large [\d,]+ −0\.2 0\.9 3\.8 0\.4 70%", text)
    assert re.search(r"stem small, medium, large [\d,]+ – – – 0\.0 –", text)
    assert re.search(r"down1 large 24 1\.2 12\.1 41\.8 20", text)
    heats = [float(cell["style"].removeprefix("--h:")) for cell in page.all("td") if "heat" in cell.get("class", "")]
    assert len(heats) == 3 * 3 + 5 + 2 * 3
    assert all(0 <= heat <= 1 for heat in heats)
    assert max(heats) == pytest.approx((np.log10(2.5 * 0.75**2) + 3) / 3.3, abs=0.01)


def test_report_page_has_no_sensitivity_table_when_none_was_measured(sample):
    report, thumbnails = sample
    students = report.students.model_copy(update={"sensitivity": None})
    html = render_report(report.model_copy(update={"students": students}), thumbnails)
    assert "Sensitivity of the layers" not in html
    assert "#sensitivity" not in html


def test_report_page_shows_the_pictures_of_the_chosen_files_flips(page, sample):
    report, thumbnails = sample
    chosen = next(c for c in report.evaluation.candidates if c.name == report.choice.chosen)
    negative_flips = [f for f in chosen.figures["test"].flips if f.teacher == f.label]
    shown = [image["src"] for image in page.all("img") if "src" in image]
    assert thumbnails[negative_flips[0].id] in shown
    assert len(shown) == 24


def test_report_page_shows_texts_on_which_file_and_teacher_differ(sample):
    report, thumbnails = sample
    tree = report.model_dump(mode="json")
    tree["evaluation"]["task"] |= {"modality": "text", "input_shape": [16]}
    texts = {identity: f"<i>{identity}</i> 😀" for identity in thumbnails}
    for candidate in tree["evaluation"]["candidates"]:
        candidate["class_words"] = {"<cat>": ["miau", "قطة"]}

    html = render_report(Report.model_validate(tree), texts)

    chosen = next(c for c in report.evaluation.candidates if c.name == report.choice.chosen)
    flip = next(f for f in chosen.figures["test"].flips if f.teacher == f.label)
    assert f'<q dir="auto">&lt;i&gt;{flip.id}&lt;/i&gt; 😀</q>' in html
    assert "validation texts" in html
    assert '<th scope="row">&lt;cat&gt;</th><td><bdi>miau</bdi>, <bdi>قطة</bdi></td>' in html
    assert not [image for image in Page(html).all("img") if "width" in image]


def test_report_page_escapes_names_from_users(sample):
    report, thumbnails = sample
    tree = report.model_dump(mode="json")
    evil = "</script><b onclick='x'>cat"
    tree["evaluation"]["task"]["classes"][3] = evil
    tree["evaluation"]["candidates"][0]["name"] = evil
    tree["config"] = {"data": {"path": evil}}
    html = render_report(Report.model_validate(tree), thumbnails)
    assert "<b onclick" not in html
    Page(html)


def test_report_page_lists_the_largest_confusions_when_classes_are_many(make_report):
    report, thumbnails = make_report(classes=[f"class {i}" for i in range(60)])
    page = Page(render_report(report, thumbnails))
    assert not [table for table in page.all("table") if table.get("class") == "confusion"]
    text = " ".join(page.text)
    assert "The most frequent confusions" in text
    assert "20 more are in report.json" in " ".join(text.split())
    assert [div["id"] for div in page.all("div") if div.get("class") == "mistakes"] == ["m0"]


def test_report_page_renders_without_a_choice_and_without_a_teacher(sample):
    report, thumbnails = sample
    tree = report.model_dump(mode="json")
    tree["choice"] = {
        "limits": {"max_size": 10},
        "objective": "accuracy",
        "chosen": None,
        "sha256": None,
        "front": [],
        "verdicts": [],
    }
    tree["evaluation"]["teacher"] = None
    text = " ".join(Page(render_report(Report.model_validate(tree), thumbnails)).text)
    assert "No file satisfies the limits" in text
    assert "Next:" in text
    assert "at most 10 B" in text


MEASURE = """<!doctype html><body style="margin:0"><iframe id="f" src="report.html"
 style="border:0;width:{width}px;height:9000px;display:block"></iframe><script>
const wait = setInterval(() => {{
  const doc = document.getElementById("f").contentDocument;
  if (!doc?.documentElement?.dataset.ready) return;
  clearInterval(wait);
  const early = doc.querySelectorAll(".main-svg").length;
  doc.defaultView.dispatchEvent(new Event("beforeprint"));
  const wide = [...doc.body.querySelectorAll("*")].filter((e) => !e.closest(".scroll, svg, .hidden, .skip, [hidden]")
    && e.getBoundingClientRect().right > {width} + 0.5);
  const cut = [...doc.querySelectorAll(".scroll")].filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1);
  const result = {{
    ready: doc.documentElement.dataset.ready, page: doc.documentElement.scrollWidth,
    wide: wide.map((e) => e.tagName + "." + e.className), cut: cut.map((e) => e.getAttribute("aria-label")),
    early, plots: doc.querySelectorAll(".main-svg").length, marks: doc.querySelectorAll(".scatterlayer .trace").length,
  }};
  const head = doc.querySelectorAll("#candidates thead button")[5];
  head.click();
  result.sorted = [...doc.querySelectorAll("#candidates tbody")].map((b) => Number(b.rows[0].cells[5].dataset.value));
  result.sort = head.closest("th").getAttribute("aria-sort");
  const layers = doc.getElementById("layer-sensitivity"), column = layers.querySelectorAll("thead button")[5];
  column.click();
  result.sensitive = [...layers.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const picker = doc.getElementById("file");
  picker.value = "m1";
  picker.dispatchEvent(new Event("change"));
  result.shown = [...doc.querySelectorAll(".mistakes:not([hidden])")].map((e) => e.id);
  result.pictures = doc.querySelectorAll("#m1 img[src^='data:image/png']").length;
  document.body.dataset.result = JSON.stringify(result);
}}, 50);
</script>"""


def open_in_chromium(folder, html, measure, width):
    """Opens a page that loads the report in a frame; returns what it wrote to `data-result`."""
    (folder / "report.html").write_text(html)
    (folder / "measure.html").write_text(measure)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={folder / 'profile'}",
        "--allow-file-access-from-files", "--hide-scrollbars", "--enable-logging=stderr",
        f"--window-size={width},1000",
        "--virtual-time-budget=20000", "--dump-dom", f"file://{folder / 'measure.html'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "CONSOLE" not in done.stderr
    found = re.search(r'data-result="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_report_page_in_chromium_fits_its_width_and_logs_no_error(tmp_path, html, width):
    result = open_in_chromium(tmp_path, html, MEASURE.format(width=width), max(width, 500))
    assert result["ready"] == "yes"
    assert result["page"] == width
    assert result["wide"] == []
    assert result["cut"] == []
    assert result["early"] < result["plots"]  # those out of sight are drawn when they are needed
    assert result["plots"] >= 5
    assert result["marks"] > 20
    assert result["sorted"] == sorted(result["sorted"])
    assert result["sort"] == "ascending"
    assert result["sensitive"][:3] == ["trunk1_1_pw", "large_tail1_pw", "large_logits"]
    assert result["shown"] == ["m1"]
    assert result["pictures"] == 24


AXIS = """<!doctype html><body style="margin:0"><iframe id="f" src="report.html"
 style="border:0;width:1280px;height:9000px;display:block"></iframe><script>
const wait = setInterval(() => {
  const doc = document.getElementById("f").contentDocument;
  if (!doc?.documentElement?.dataset.ready) return;
  clearInterval(wait);
  doc.defaultView.dispatchEvent(new Event("beforeprint"));
  const plot = doc.querySelector('[data-plot="bytes"]'), [low, high] = plot.layout.yaxis.range;
  const labels = [...plot.querySelectorAll(".ytick text")].map((e) => e.textContent);
  document.body.dataset.result = JSON.stringify({ low, high, labels });
}, 50);
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_report_page_in_chromium_has_a_readable_axis_when_all_accuracies_are_alike(tmp_path, sample):
    report, thumbnails = sample
    tree = report.model_dump(mode="json")
    alike = {"top1": 0.993, "top1_interval": {"low": 0.993, "high": 0.993}}
    for candidate in tree["evaluation"]["candidates"]:
        for figures in candidate["figures"].values():
            figures |= alike
    tree["evaluation"]["teacher"]["accuracy"] = {"validation": 0.993, "test": 0.993}

    axis = open_in_chromium(tmp_path, render_report(Report.model_validate(tree), thumbnails), AXIS, 1280)

    assert axis["high"] - axis["low"] == pytest.approx(2)
    assert axis["low"] < 99.3 < axis["high"]
    assert len(axis["labels"]) >= 3
    assert len(set(axis["labels"])) == len(axis["labels"])
