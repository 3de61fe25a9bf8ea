"""The results of a study -> one page: answer, verdicts, proof, figures, numbers, provenance."""
