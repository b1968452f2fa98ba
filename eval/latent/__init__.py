"""Experiments on groups whose members attend to one another."""
