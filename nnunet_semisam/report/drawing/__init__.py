"""HTML, numbers, charts and pictures of slices: how things are drawn, whatever they mean."""
