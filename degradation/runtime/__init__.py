"""The process and the machine: environment, signals, progress, torchrun."""
