"""LD pruning: the published greedy rule over all pairs of loci, without the matrix of all correlations."""
