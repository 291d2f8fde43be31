"""Training schedules and fitting by gradient descent."""
