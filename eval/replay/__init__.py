"""Routers and aggregators judged on recorded outcomes, without running a model."""
