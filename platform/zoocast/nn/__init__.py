"""Networks: one-step cells, the loop that unrolls them, and the predictor around them. Readable with torch alone."""
