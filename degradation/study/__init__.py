"""A study on disk: what ships, what is done, pairs, results, logs, cleaning."""
