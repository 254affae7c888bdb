"""YAML: as PyYAML reads it, but for floats and duplicate fields."""

import pytest
import yaml

from mtkd.config.yaml import parse


def test_plain_values_are_read_as_pyyaml_reads_them():
    value = {"a": [1, 2.5, None, True, "x", {"b": []}], "c": "yes please"}
    assert parse(yaml.safe_dump(value)) == value
    assert parse("") is None


def test_a_float_needs_no_point():
    assert parse("[5e-5, 1E3, -2e+2]") == [5e-5, 1000.0, -200.0]
    assert parse("[e5, 1e, 5e-5x, '5e-5']") == ["e5", "1e", "5e-5x", "5e-5"]


def test_merged_fields_may_be_overridden():
    text = "base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}"
    assert parse(text)["more"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", r"the field 'a' appears twice \(line 3\)"),
        ("x: {a: 1, a: 2}", "the field 'a' appears twice"),
        ("a: [", "expected the node content"),
        ("a: !!timestamp x", "."),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("[" * 5000, "recursion"),
    ],
)
def test_what_cannot_be_read_is_refused_on_one_line(text, words):
    with pytest.raises(ValueError, match=words) as error:
        parse(text)
    assert "\n" not in str(error.value)
