"""Small studies for the tests of stages: three tasks, two candidates, one-layer encoders."""

import json

import helpers

from mtkd.config.study import Study, load

TINY = helpers.ROOT / "tests" / "studies" / "tiny.yaml"
SMALL = [*helpers.SMALL, "name=small", "ablation=null", "seeds=[0]"]
MKD = """mkd={
  train: {optimizer: adamw, learning_rate: 1.0e-3, epochs: 1}, mixed_hard_weight: 0.5,
  finetune: {epochs: 1}, seeds: [0], tasks: [rte, stsb], serving: {examples: 8, rounds: 1},
  students: {
    lstm: {kind: lstm, embedding_dim: 16, hidden: 16, output_dim: 32, embeddings: teacher},
    transformer: {kind: transformer, init_from: encoder, kept_layers: [0]}}}"""
ASSISTED = """mkd.students.assisted={
  kind: lstm, embedding_dim: 16, hidden: 16, output_dim: 32, embeddings: teacher,
  assistant: transformer}"""
ADAPTATION = """adaptation={
  fractions: [0.01, 0.1, 1.0], seeds: [0], max_train: 100, max_dev: 40, min_updates: 5}"""


def overrides(*more: str, **variants: dict) -> list[str]:
    """Return settings of a small study, with these variants of an ablation."""
    named = {name.replace("_", "-"): variant for name, variant in variants.items()}
    ablation = [f"ablation={json.dumps({'variants': named})}"] if variants else []
    return [*SMALL, *ablation, *more]


def small(*more: str, **variants: dict) -> Study:
    """Return a small study with these settings and these variants of an ablation."""
    return load(TINY, overrides(*more, **variants))
