"""A judge among experts: who picks, ranks or scores what others propose."""
