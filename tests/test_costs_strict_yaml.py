"""Laws of the strict YAML reader: it round-trips, and what it refuses it refuses in one line."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import strict_yaml
from costs.errors import InputError, nearest

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
    | st.sampled_from(["no", "yes", "on", "null", "~", "1e-3", "010", "0x1", "true", "", "1_000"])
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1, max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(documents)
def test_dump_then_load_is_the_identity(data):
    assert strict_yaml.loads(strict_yaml.dumps(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("+.5", 0.5),
        ("12.", 12.0),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("-7", -7),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("2026-11-21", "2026-11-21"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("-.inf", -math.inf),
        ("'1'", "1"),
        ("<<: 1", {"<<": 1}),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = strict_yaml.loads(text)
    assert read == value
    assert type(read) is type(value)


def test_numeric_keys_keep_their_text():
    assert strict_yaml.loads("{1: a, true: b}") == {"1": "a", "true": "b"}


BOMB = "a: &a [1,1]\n" + "".join(
    f"{c}: &{c} [*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=False)
)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a'"),
        (BOMB, 1, "anchors"),
        ("a: 1\nb: *x\n", 2, "aliases"),
        ("[" * 100_000, 1, "nested deeper than 32"),
        ("a: [1, 2\nb: 3\n", 2, "expected"),
        ("a: !!python/object/apply:os.system ['echo hi']", 1, "could not determine a constructor"),
        ("{[1]: 2}", 1, "plain word"),
        ("a: b: c", 1, "mapping values"),
        ("a: 1\n--- \nb: 2", 2, "another document"),
        ("a: 1\nb: \x07", 2, "control character"),
        ("a: " + "9" * 5000, 1, "too many digits"),
        ("a: 1\nb: !!int x", 2, "not an integer"),
        ("a: !!float x", 1, "not a number"),
        ("a: !!bool x", 1, "not a boolean"),
        ("a: !!timestamp x", 1, "could not determine a constructor"),
        ("a: !!binary x", 1, "could not determine a constructor"),
        ("!!map [1]", 1, "expected a mapping"),
        ("!!seq {a: 1}", 1, "expected a list"),
        ("!!str [1]", 1, "expected a scalar"),
        ("!!int [1]", 1, "expected a scalar"),
        ('a: "\\UFFFFFFFF"', None, "not valid YAML"),
    ],
)
def test_refusals_name_file_and_line(text, line, words):
    with pytest.raises(InputError) as caught:
        strict_yaml.loads(text, file="hw.yaml")
    assert caught.value.line == line
    message = str(caught.value)
    assert words in message
    assert message.startswith("hw.yaml")
    assert "\n" not in message


@given(st.text(max_size=60))
def test_any_text_loads_or_is_refused(text):
    refusal = ""
    try:
        strict_yaml.loads(text)
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal


def test_files_are_bounded_and_must_exist(tmp_path):
    big = tmp_path / "big.yaml"
    big.write_text("# " + "x" * strict_yaml.MAX_BYTES)
    for path, words in (
        (big, "too large"),
        (tmp_path / "none.yaml", "cannot be read"),
        (tmp_path, "cannot"),
    ):
        with pytest.raises(InputError, match=words):
            strict_yaml.load(path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="UTF-8"):
        strict_yaml.load(latin)
    good = tmp_path / "good.yaml"
    strict_yaml.dump({"a": [1, 2.5]}, good)
    assert strict_yaml.load(good) == {"a": [1, 2.5]}


def test_nearest_key_is_suggested():
    assert nearest("bandwith", ["bandwidth", "capacity"]) == "bandwidth"
    assert nearest("zzz", ["bandwidth"]) is None
