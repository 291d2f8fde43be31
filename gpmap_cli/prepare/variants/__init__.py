"""Genotypes at variants of a genome: PLINK 1, PLINK 2, VCF and BCF."""
