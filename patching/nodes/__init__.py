"""The nodes of a model: their kinds, one module each, and the layout that puts them in order."""
