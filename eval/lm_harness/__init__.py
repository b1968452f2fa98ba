"""Compositions under lm-evaluation-harness: its tasks, filters and metrics, and our experts."""
