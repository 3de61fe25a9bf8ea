"""Speed and memory of the training step and of the probes, against a stated reference, measured in one process run."""
