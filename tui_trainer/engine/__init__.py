"""The side that computes: models, data, training, generation; the only part that loads torch and its libraries."""
