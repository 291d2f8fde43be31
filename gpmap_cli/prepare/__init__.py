"""Importing files of other formats into dataset files."""
