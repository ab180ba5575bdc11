"""The device: its store, its round, its training and its link to the cloud. Loads no training framework."""
