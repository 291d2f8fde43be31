"""gpmap: infer genotype-phenotype maps with attention models, exact regressions and what lies beyond."""

__version__ = "0.1.0"
