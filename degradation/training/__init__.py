"""Training: the recipe, the step, evaluation, the loop of one run, and its checkpoint."""
