"""Small heads that learn from embeddings how well each expert will do."""
