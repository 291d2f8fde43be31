"""One module per command: a checked configuration in, files and text out."""
