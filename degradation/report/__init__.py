"""Everything that a study says -> one page: answer, verdicts, proof, figures, numbers, provenance."""
