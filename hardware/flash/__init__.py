"""Writing a seeded operating system image to a card, so that the board joins its fleet by itself.

image.py         one pass over an image, decompressed and hashed on the way
partitions.py    its partition table
fat.py           files in its boot partition, by mtools
prepare.py       what an image is, and its boot partition with the seed, before anything is written
settings.py      FLEET.toml
seed.py          the files of a seed; cloudinit.py and firstrun.py for each kind of system
disks.py         what a disk is, and every reason not to write to it
target.py        the medium: a device or an image file
writer.py        all but sector 0, read back past the page cache, then sector 0
receipt.py       what was written where
"""
