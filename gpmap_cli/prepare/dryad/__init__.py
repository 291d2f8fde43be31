"""The yeast data as deposited at Dryad: probabilities and phenotypes as text."""
