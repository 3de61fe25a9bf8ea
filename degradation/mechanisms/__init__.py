"""Experiments on trained networks: a finished run -> one long frame, each experiment in a file of its own."""
