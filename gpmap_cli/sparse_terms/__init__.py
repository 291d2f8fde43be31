"""Sparse models of loci and interactions: search by scans, selection by joint tests, penalised fits."""
