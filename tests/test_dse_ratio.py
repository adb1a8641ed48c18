"""A fixed bottleneck ratio: every boundary has ceil(C / r) channels, whoever proposes a design."""

import math

import numpy as np
import pytest
from test_dse_own_network import EXAMPLES, OWN, _dse

from costs import strict_yaml
from costs.chip_tables import list_blocks
from costs.errors import InputError
from dse.config import parse_config
from dse.context import Context, make_context
from dse.policy import decode_ordinals
from dse.relaxed import Shape, sample_ordinals, split_ordinals
from dse.sampling import sample_design
from dse.surface_spec import Weights

RATIOS = [1, 1.5, 2, 3, 100]


def _context(**network) -> Context:
    chosen = {"name": OWN, "options": {"channels": 10}, **network}
    return make_context(
        parse_config({"name": "fixed", "network": chosen, "chip": "quad_big_little"})
    )


def _shape(context: Context) -> Shape:
    """As `Shape.of` a problem, without its tables."""
    boundaries = context.boundaries
    return Shape(
        tuple(b.channels for b in boundaries),
        tuple(len(b.reduce) for b in boundaries),
        ((3, 1, 2),),
        len(context.workload.layers),
        4,
        tuple(b.width for b in boundaries),
    )


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_way_to_a_width_gives_the_one(ratio):
    import jax

    context = _context(ratio=ratio)
    expected = [math.ceil(b.channels / ratio) for b in context.net.boundaries]
    shape, count = _shape(context), len(expected)
    assert all(
        len(b.reduce) <= width for b, width in zip(context.boundaries, expected, strict=True)
    )

    rng = np.random.default_rng(0)
    raw = rng.normal(0, 5, (len(shape.ordinal_high), 50)).astype(np.float32)
    relaxed = decode_ordinals(shape, raw)
    lower, fraction = split_ordinals(shape, np.asarray(relaxed))
    np.testing.assert_array_equal(fraction[:count], 0.0)
    for ordinals in (lower, np.asarray(sample_ordinals(jax.random.key(0), shape, relaxed))):
        widths = shape.widths(ordinals)
        np.testing.assert_array_equal(widths, np.repeat(np.array([expected]).T, 50, axis=1))

    owners = np.array([edge.boundary for edge in context.net.edges])
    for _ in range(30):
        widths, _ = sample_design(rng, context.boundaries, owners, Weights())
        assert widths.tolist() == expected


@pytest.mark.parametrize("ratio", RATIOS)
def test_tables_hold_the_one_width_alone(ratio):
    """A boundary of 1,024 channels has 1,023 others, each a search for each set of homes."""
    context = _context(ratio=ratio)
    blocks = list_blocks(context.boundaries, context.workload, context.chip)
    wanted = [block.wanted for block in blocks if block.dim is not None]
    widths = [b.width or 0 for b in context.boundaries if b.reduce]
    pairs = [(width,) if width < 10 else () for width in widths for _ in ("reduce", "expand")]
    assert wanted == pairs * len(context.chip.types)


def test_without_a_ratio_widths_are_free():
    shape = _shape(_context())
    assert shape.ordinal_low[:2].tolist() == [1, 1]
    assert shape.widths(shape.ordinal_high).tolist() == [10, 10]


@pytest.mark.parametrize("network", [{"ratio": 0.5}, {"ratio": 2, "largest_width": 3}])
def test_a_ratio_that_cannot_be_is_refused(network):
    with pytest.raises(InputError, match="ratio"):
        _context(**network)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["surface", "joint"])
def test_exported_widths_are_those_of_the_ratio(tmp_path, method):
    small = ["weights.steps=6", "predictor.designs=16", "policy.steps=4", "finetune.steps=2"]
    settings = [f"surface.{s}" for s in (*small, "selection.candidates=4", "selection.designs=2")]
    settings += ["joint.steps=10", f"method={method}", "network.ratio=3"]
    flags = [part for setting in settings for part in ("--set", setting)]
    _dse("run", EXAMPLES / "my_net.yaml", "--out", tmp_path / "run", *flags)
    _dse("export", tmp_path / "run", "--pick", "knee", "--out", tmp_path / "out")
    design = strict_yaml.load(tmp_path / "out" / "design.yaml")
    assert design["widths"] == {"stem": 3, "merged": 3}  # of 8 channels
