"""YAML from anybody: plain values alone, no field twice, no anchors that multiply."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

MOST = 100_000  # values that a text may stand for, each alias counted as all that it repeats


def parsed(text: str) -> Any:
    """The value that a YAML text holds. `ValueError` with the reason on one line where there is none, or one that no study needs."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST:
            raise ValueError(f"its anchors stand for more than {MOST:,} values")
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
    ) as error:  # PyYAML's own, for an odd value behind a tag
        raise ValueError(f"a value does not fit its tag ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    finally:
        if loader is not None:
            loader.dispose()


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for; `known` holds those of nodes seen before, None while they are counted."""
    if id(node) in known:
        if known[id(node)] is None:
            raise ValueError(f"an anchor holds itself (line {node.start_mark.line + 1})")
        return known[id(node)]
    known[id(node)] = None
    below = []
    if isinstance(node, yaml.MappingNode):
        names = set()
        for name, value in node.value:
            below += [name, value]
            if isinstance(name, yaml.ScalarNode) and (name.tag, name.value) in names:
                raise ValueError(
                    f"the field '{name.value}' stands twice (line {name.start_mark.line + 1})"
                )
            if isinstance(name, yaml.ScalarNode):
                names.add((name.tag, name.value))
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    known[id(node)] = 1 + sum(_size(child, known) for child in below)
    return known[id(node)]


def no_numbers(given: Any, found: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Values that pydantic takes for numbers and a study does not, with the field that each stands in."""
    if isinstance(given, dict | list):
        for key, value in given.items() if isinstance(given, dict) else enumerate(given):
            if isinstance(found, dict) and key not in found:
                continue  # a default that a study's record leaves out
            there = found[key]
            yield from no_numbers(value, there, f"{place}.{key}" if place else str(key))
    elif isinstance(given, bool) and not isinstance(found, bool):
        yield (
            place,
            f"a number is wanted, yes, no, true and false are truth values in YAML (it is {json.dumps(given)})",
        )
    elif isinstance(found, int) and abs(found) >= 2**63:
        yield (
            place,
            f"the number is too great (it has {len(str(abs(found)))} digits): write a smaller one",
        )
