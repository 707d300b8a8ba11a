"""The ML engineer's door: recipes, the graph, and `python -m pipelines`."""
