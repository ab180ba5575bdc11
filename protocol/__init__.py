"""The contract between device and cloud: pure values and codecs, no sockets, threads, clocks or files."""
