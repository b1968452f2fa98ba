"""Tasks: questions whose answers can be scored, by the names that people type.

name -> registry -> files of a benchmark, on disk or on the hub -> rows, each with its place -> Task
"""
