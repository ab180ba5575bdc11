"""Global models: trained on the pool, converted, proven, published."""
