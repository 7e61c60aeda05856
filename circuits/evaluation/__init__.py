"""How good a circuit is: its outcomes, curves, areas, completeness."""
