"""Everything that a board installs, as one file that needs no network.

boards.py    which systems a board runs, and what wheels fit them
wheel.py     what a wheel is: name, version, licence, digest, size
pip.py       pip, made to choose for another machine
lock.py      which wheels, by digest
trim.py      a wheel without what no device uses
sbom.py      the bill of materials
archive.py   the same files, the same bytes
build.py     from a checkout to a bundle
"""
