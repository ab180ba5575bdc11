"""The recommenders' names, for those who choose one without loading Keras."""

RECOMMENDERS = ("lr", "wide_deep", "deepfm", "pnn", "din")
DEFAULT_RECOMMENDER = "din"
