"""Power meters beside the board, on a serial port. One module a family, `autodetect` to find out which it is."""
