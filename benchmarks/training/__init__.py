"""One model, the same samples and batches: a training step, a whole process and its memory, here and elsewhere.

Contenders run in processes of their own that import this package, so it imports nothing.
"""
