"""What the page is made of, read from a benchmark's folder and the dataset: no HTML, no wording."""
