"""Runs as one page: an HTML file that needs nothing else, and the same in Markdown."""
