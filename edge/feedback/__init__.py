"""What an app tells of its user, and the samples that this makes."""
