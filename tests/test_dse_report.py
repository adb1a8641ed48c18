"""The report: self-contained, deterministic, safe against what files say."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_run import make_breakdown, write_run

from costs.errors import InputError
from dse.front_table import read_front
from dse.report import write_report


def report(run: Path) -> list[Path]:
    front = read_front(run / "front.csv")
    return write_report(run, evaluate=lambda path: make_breakdown(dict(front.row(path.stem))))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[Path]]:
    run = write_run(tmp_path_factory.mktemp("report") / "run", designs=6)
    return run, report(run)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_a_second_report_has_the_same_bytes(written):
    run, paths = written
    before = {path: path.read_bytes() for path in paths}
    assert report(run) == paths
    assert {path: path.read_bytes() for path in paths} == before


def test_the_page_needs_nothing_from_outside(written):
    page = Page()
    page.feed(written[1][0].read_text())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert (attributes.get("src") or "data:").startswith("data:")
        if "href" in attributes:  # only to a file of the run
            assert tag == "a"
            assert not re.match(r"/|\.\.|\w+:", attributes["href"] or "/")
    assert "default-src 'none'" in written[1][0].read_text()


def test_figures_are_written_and_shown(written):
    run, paths = written
    page = Page()
    page.feed(paths[0].read_text())
    images = [a for tag, a in page.tags if tag == "img"]
    names = {path.stem for path in paths[1:]}
    # The three pairs are interactive in the page and still pictures in figures/.
    assert {n for n in names if n.startswith("front_")} == {
        "front_accuracy_io", "front_accuracy_energy", "front_energy_io",
    }  # fmt: skip
    assert {
        "choices",
        "energy",
        "accuracies",
        "chip",
        "schedule",
        "layers_0",
        "rounding",
        "training",
    } <= names
    assert len(images) == len(names) - 3
    assert all(image["alt"] for image in images)
    assert {path.name for path in (run / "figures").iterdir()} == {p.name for p in paths[1:]}


def test_the_first_screen_says_what_the_chosen_design_saves(written):
    run, paths = written
    rows = {str(row["id"]): row for row in read_front(run / "front.csv").rows}
    (text,) = re.findall(r'<p class="summary">(.*?)</p>', paths[0].read_text())
    chosen, best = re.findall(r"d\d+-[0-9a-f]+", text)
    assert best == max(rows, key=lambda i: float(rows[i]["validation_accuracy"]))
    less = float(rows[best]["io_bytes"]) / float(rows[chosen]["io_bytes"])
    (said,) = re.findall(r"takes (.*?) IO traffic", text)
    assert said == (
        f"{less:.1f} times less" if less >= 2 else f"{1 - 1 / less:.0%} less".replace("%", " %")
    )
    lost = float(rows[best]["validation_accuracy"]) - float(rows[chosen]["validation_accuracy"])
    assert f"{100 * lost:.2f} points less accurate" in text


def test_every_design_can_be_hovered_and_read(written):
    run, paths = written
    text = paths[0].read_text()
    for design in read_front(run / "front.csv").ids:
        assert text.count(f'data-card="{design}"') == 1
        assert text.count(f'data-id="{design}"') == 1
        # In hover texts plotly's JSON writes angle brackets as escapes.
        assert text.count(f"\\u003cb\\u003e{design}\\u003c") == 5


def test_one_design_is_told_as_one(tmp_path):
    """What `method: joint` writes: no surface, no knee, but what was asked for."""
    run = write_run(tmp_path / "run", designs=1)
    config = (run / "config.yaml").read_text()
    joint = "joint: {preference: {energy: 0.2}, budget: {io_bytes: 150.0, area: null}}\n"
    (run / "config.yaml").write_text(config + joint)
    paths = report(run)
    text = paths[0].read_text()
    assert "quickstart: 1 design<" in text
    assert "asked for: io_bytes at most 150; with the weights energy 0.2." in text
    assert text.count("data-card=") == 1
    for word in ("knee", "The surface", "All designs", "other designs"):
        assert word not in text
    assert not [path for path in paths if path.stem.startswith("front_")]


def test_what_files_say_is_escaped(tmp_path):
    evil = "</script><script>alert(1)</script>"
    run = write_run(tmp_path / "run", designs=3, name=evil)
    front = (run / "front.csv").read_text().replace("big0", "<img src=x onerror=alert(2)>")
    (run / "front.csv").write_text(front)
    (run / "environment.json").write_text(json.dumps({"device": {"kind": evil}}))
    row = dict(read_front(run / "front.csv").rows[0])
    cores = ("<img src=x onerror=alert(2)>", "big1", "little0", "little1")
    design = dataclasses.replace(make_breakdown(row), cores=cores, links=())
    text = write_report(run, evaluate=lambda _: design)[0].read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert len(re.findall("<script", text)) == len(re.findall("</script>", text)) == 5


def test_old_figures_go_when_the_front_changes(written, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(written[0], run)
    (run / "figures" / "layers_7.png").write_bytes(b"old")
    report(run)
    assert not (run / "figures" / "layers_7.png").exists()


def test_a_run_without_a_front_is_one_line(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(InputError, match="no front yet"):
        write_report(tmp_path)
