"""Mixture of Thoughts: one expert writes while it attends to what others think of the question.

Source: Mixture of Thoughts (arXiv 2509.21164). What is ours and why: docs/latent.md.
"""
