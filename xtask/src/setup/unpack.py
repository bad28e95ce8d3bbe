"""Unpacks the libraries and headers that brt needs from the wheels in a folder, each wheel removed when done.

Usage: python3 unpack.py WHEELS TARGET. Needs nothing but the standard library.
"""

import glob
import os
import shutil
import sys
import zipfile

wheels, target = sys.argv[1:]
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libshm.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}


def destination(name):
    """Returns where a file of a wheel goes, or None for a file that is not needed."""
    base = os.path.basename(name)
    if not base:
        return None
    if name.startswith("torch/include/"):
        return os.path.join(target, name[len("torch/") :])
    if base in LIBRARIES and "/lib/" in name:
        return os.path.join(target, "lib", base)
    if name == "torch/version.py":
        return os.path.join(target, "version.py")
    return None


for wheel in glob.glob(os.path.join(wheels, "*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = destination(name)
            if path is None:
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    os.remove(wheel)
os.rmdir(wheels)

# torch-sys reads the version from build-version.
scope = {}
with open(os.path.join(target, "version.py")) as file:
    exec(file.read(), scope)
with open(os.path.join(target, "build-version"), "w") as file:
    file.write(scope["__version__"])
os.remove(os.path.join(target, "version.py"))
# torch-sys links `torch`; the wheel's own libtorch.so would pull in all of CUDA.
os.symlink("libtorch_cpu.so", os.path.join(target, "lib", "libtorch.so"))
