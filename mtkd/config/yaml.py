"""YAML of plain values: no field twice, and 5e-5 is a number."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, names = super().compose_mapping_node(anchor), set()
        for name, _ in node.value:
            key = (name.tag, str(name.value))
            if key in names:
                raise ValueError(
                    f"the field '{name.value}' appears twice (line {name.start_mark.line + 1})"
                )
            names.add(key)
        return node


# As in YAML 1.2; PyYAML follows 1.1, where a float needs a point.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def parse(text: str) -> Any:
    """Return the value that a YAML text holds; `ValueError` says on one line why it cannot."""
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # PyYAML raises many kinds for odd values behind a tag
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def has_comment(text: str) -> bool:
    """Return whether a YAML text that `parse` reads has a comment, which it would drop."""
    tokens = list(yaml.scan(text, _Loader))
    ends = (0, *(token.end_mark.index for token in tokens))
    starts = (*(token.start_mark.index for token in tokens), len(text))
    return any("#" in text[end:start] for end, start in zip(ends, starts, strict=True))
