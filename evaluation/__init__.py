"""Does personalisation pay? Datasets, splits, metrics, statistics and arms, over the code that runs in production."""
