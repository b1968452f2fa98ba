"""Composition of Experts: which category a query is of, and which expert is best at that."""
