"""Exhaustive scans for epistasis: every set of so many loci tested against the phenotype. Arrays in, numbers out."""
