"""The landscape of the loss of a deep linear network."""
