"""What a device keeps on disk, and how it survives a power cut."""
