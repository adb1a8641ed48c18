"""Settings of all tests: deterministic hypothesis, strict shapes, place of the reference data."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile(
    "narrows", derandomize=True, deadline=None, max_examples=50, print_blob=False
)
hypothesis.settings.load_profile("narrows")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data, `DSE_REFERENCE` or ../shared/reference; skips where absent."""
    folder = Path(os.environ.get("DSE_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("the reference data is not here (DSE_REFERENCE)")
    return folder
