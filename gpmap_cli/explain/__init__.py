"""What a fitted predictor has learned: effects of loci and of pairs of loci, read off its predictions alone."""
