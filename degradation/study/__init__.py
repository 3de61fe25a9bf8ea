"""A study on disk: shipped studies, run statuses, pairs, results, logs, cleanup."""
