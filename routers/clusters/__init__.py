"""Avengers: how experts did on the clusters of recorded queries that a query is nearest to."""
