"""Simulated data: genotypes of independent or linked loci, phenotypes of known additive and epistatic effects."""
