"""Symbolic-MoE: what experts have shown on the skills that a query takes."""
