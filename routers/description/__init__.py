"""Glider: experts whose descriptions are nearest to what a query is about."""
