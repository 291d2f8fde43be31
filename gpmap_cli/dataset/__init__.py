"""Genotypes and phenotypes: the dataset file (HDF5), its reading, writing, splits and coding."""
