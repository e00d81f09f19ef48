"""The demonstration: a whole deployment on synthetic data, and the story it tells."""
