"""How experts did on the recorded queries nearest to the query."""
