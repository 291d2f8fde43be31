"""Crosses of inbred lines in the formats of R/qtl and R/qtl2."""
