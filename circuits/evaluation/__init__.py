"""How good a circuit is: curves, areas, comparisons, scrutiny."""
