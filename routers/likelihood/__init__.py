"""Branch-Train-Merge: experts that find the query itself likely."""
