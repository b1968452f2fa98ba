"""Experts whose distributions are mixed: over options, or token by token."""
