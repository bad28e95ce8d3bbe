"""Unpacks the headers from the wheels in a folder, each wheel removed when done.

Usage: python3 unpack_headers.py WHEELS TARGET. Needs nothing but the standard library.
"""

import glob
import os
import shutil
import sys
import zipfile

wheels, target = sys.argv[1:]
for wheel in glob.glob(os.path.join(wheels, "*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, _, header = name.partition("/include/")
            if not header or header.endswith("/"):
                continue
            path = os.path.join(target, header)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    os.remove(wheel)
os.rmdir(wheels)
