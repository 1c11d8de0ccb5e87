"""Step times from first principles, for combinations of model and GPU that nobody has measured."""
