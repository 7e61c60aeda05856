"""All-for-One inside the model: its three stages, and what a subgraph of them is made of."""
