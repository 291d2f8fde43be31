"""Tables of text: genotypes, phenotypes and variants as spreadsheets hold them."""
