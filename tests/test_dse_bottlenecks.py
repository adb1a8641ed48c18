"""The bottleneck study: what a ratio costs, that cells are kept, and how trends are told."""

import math
from pathlib import Path

import numpy as np
import pytest

from costs import strict_yaml
from costs.errors import InputError
from costs.library import read_chip
from dse import bottleneck_study as study
from dse.bottleneck_trends import slopes, summarise, trends
from dse.config import load_config
from dse.csv_rows import read_rows
from dse.study import draw_study, write_study

CHIP = Path(__file__).parent.parent / "experiments" / "bottlenecks_chip.yaml"
CONFIG = f"""
name: tiny
network: {{name: cifar_resnet8, width_multiplier: 0.25, bits: 8}}
chip: {CHIP}
training: {{batch: 16, optimizer: sgd, calibration_pictures: 32}}
train: {{epochs: 0.05}}
bottlenecks: {{networks: [cifar_resnet8], ratios: [1.0, 3.0], seeds: 1, shared: 0.5}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("bottlenecks") / "tiny.yaml"
    file.write_text(CONFIG)
    return load_config(file, [])


@pytest.fixture(scope="module")
def subject(config):
    return study.Subject(config, "cifar_resnet8")


def test_cuts_stand_between_stages() -> None:
    assert study.cuts_of("cifar_resnet20") == ["stem.out", "stage1.block2.out", "stage2.block2.out"]
    three = ["stage1.block1.out", "stage2.block1.out", "stage3.block1.out"]
    assert study.cuts_of("resnet18") == three
    with pytest.raises(InputError, match="vgg16"):
        study.cuts_of("vgg16")


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_what_crosses_is_the_published_count(subject, ratio: float) -> None:
    """H W ceil(C / r) words of a byte at each cut, all of them crossing, one core each."""
    design, boundaries = subject.design(ratio), subject.any_context.net.boundaries
    widths = [math.ceil(b.channels / ratio) for b in boundaries]
    assert design.widths.tolist() == widths
    assert (design.crossing == 1.0).all()
    words = sum(b.words(width) for b, width in zip(boundaries, widths, strict=True))
    assert design.costs["link_bytes"] == words


def ran_again(*told: object) -> None:
    raise AssertionError(told)


def test_cells_are_kept_reproducible_and_not_mixed(config, subject, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(study, "Subject", lambda *_: subject)  # compiled once for both runs
    first = study.run_cells(config, tmp_path / "a", lambda *_: None)
    (tmp_path / "a" / "cifar_resnet8-0-3.json").unlink()  # killed before the second ratio was done
    assert study.run_cells(config, tmp_path / "a", lambda *_: None) == first
    (tmp_path / "a" / "cifar_resnet8-0.safetensors").unlink()
    assert study.run_cells(config, tmp_path / "a", ran_again) == first
    assert [row["ratio"] for row in first] == [1.0, 3.0]
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 9.0})})
    with pytest.raises(InputError, match="another configuration"):
        study.run_cells(longer, tmp_path / "a", ran_again)
    chip = tmp_path / "elsewhere.yaml"  # the same chip in another place is the same study
    chip.write_text(strict_yaml.dumps(read_chip(config.chip)))
    moved = config.model_copy(update={"chip": str(chip)})
    assert study.run_cells(moved, tmp_path / "a", ran_again) == first


def test_the_shared_part_ends_where_the_ratios_part(subject, tmp_path) -> None:
    """Both ratios go on from one state, which a file holds to the last bit."""
    trained = subject.train(subject.fresh(0), 0, 0, subject.shared, None)
    for _ in range(2):  # made, then read
        kept = subject.trunk(0, tmp_path / "kept")
        for name, value in trained["params"].items():
            np.testing.assert_array_equal(value, kept["params"][name])
        for one, other in zip(trained["leaves"], kept["leaves"], strict=True):
            np.testing.assert_array_equal(one, other)
    assert 0 < subject.shared < subject.steps


def rows_of(network: str, lost: list[float]) -> list[dict]:
    """One seed for each loss [points per doubling]."""
    return [
        {
            "method": "ratio",
            "network": network,
            "seed": seed,
            "ratio": 2.0**power,
            "test_accuracy": 0.6 - 0.01 * points * power,
            "link_bytes": 1000.0 / 2**power,
        }
        for seed, points in enumerate(lost)
        for power in range(6)
    ]


def test_trends_are_told_as_they_are() -> None:
    rows = rows_of("cifar_resnet8", [4.0, 4.2, 3.8]) + rows_of("cifar_resnet20", [2.0, 2.1, 1.9])
    assert slopes(rows, "cifar_resnet8") == pytest.approx({0: -4.0, 1: -4.2, 2: -3.8})
    said = trends(rows)
    assert said[0].startswith("cifar_resnet8: accuracy falls with the ratio, -4.00 points")
    assert said[2].startswith("cifar_resnet8 falls faster than cifar_resnet20: slopes differ by +2")
    assert summarise(rows)[1]["slope_high"] < 0
    assert "among ratios above 1" in said[3]

    turned = rows_of("cifar_resnet8", [1.0, 1.1]) + rows_of("cifar_resnet20", [-2.0, 2.0])
    assert "whether accuracy falls with the ratio is not decided" in trends(turned)[1]
    assert "is not decided" in trends(turned)[2]
    deep = rows_of("cifar_resnet8", [1.0, 1.1]) + rows_of("cifar_resnet20", [3.0, 3.1])
    assert trends(deep)[2].startswith("cifar_resnet20 falls faster than cifar_resnet8")


def test_what_a_pair_costs_at_any_ratio_can_be_left_out() -> None:
    rows = rows_of("cifar_resnet8", [1.0, 1.0])
    lifted = [
        {**row, "test_accuracy": row["test_accuracy"] + 0.1 * (row["ratio"] == 1)} for row in rows
    ]
    assert slopes(lifted, "cifar_resnet8", pairs=True) == pytest.approx({0: -1.0, 1: -1.0})
    assert max(slopes(lifted, "cifar_resnet8").values()) < -2.0


def test_one_seed_decides_nothing() -> None:
    said = trends(rows_of("cifar_resnet8", [4.0]) + rows_of("cifar_resnet20", [2.0]))
    assert "whether accuracy falls with the ratio is not decided" in said[0]
    assert said[0].endswith("-4.00 points per doubling, one seed")
    assert "is not decided" in said[2]


def test_a_seed_without_all_ratios_is_left_out() -> None:
    rows = rows_of("cifar_resnet8", [4.0, 9.0])[:-1]
    assert slopes(rows, "cifar_resnet8") == pytest.approx({0: -4.0})


def test_depths_are_compared_on_the_seeds_that_both_have() -> None:
    shallow, deep = rows_of("cifar_resnet8", [4.0, 5.0, 6.0]), rows_of("cifar_resnet20", [0.0] * 3)
    late = [row for row in deep if row["seed"] > 0]
    said = trends([*shallow, *late])[2]
    assert "slopes differ by +5.50" in said
    assert said.endswith("2 seeds")


def test_the_study_is_drawn_again_from_its_table(tmp_path) -> None:
    rows = rows_of("cifar_resnet8", [4.0, 4.2]) + rows_of("cifar_resnet20", [2.0, 2.1])
    surface = {**rows[0], "method": "surface", "ratio": "", "link_bytes": 300.0}
    files = write_study(tmp_path, "bottlenecks", [*rows, surface], {"seeds": [0, 1]})
    assert read_rows(files[0]) == [*rows, surface]
    first = files[2].read_bytes()
    files[2].unlink()
    assert draw_study(tmp_path)[0].read_bytes() == first
