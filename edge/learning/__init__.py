"""Models on the device, and making one personal: matched samples sorted, h0 tuned, the result judged."""
