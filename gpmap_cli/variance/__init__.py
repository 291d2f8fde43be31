"""Variance components: how much of the phenotypic variance each epistasis order explains. Arrays in, numbers out."""
