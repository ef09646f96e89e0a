# gdb: source FILE (the name must end in .py)
import base64
import zlib

DATA = zlib.decompress(base64.b64decode("""
eJylks9KxDAQxqdd3F0EoSsinjyIePBQ9OJFkL0oHnyHMbtNt8U2LW3Kdg+iJ4++grJP4lP4Hj6BpmnSf7r04AeTyfyYL5OWPF3f3ZiGAVomXEFd1Rqa9X6q1hEM/+gsdS7PMkTX+9u3kOYXioPR5o+SDwAs+GjyFxGG4FaHF9ex4KuqtfY0t9r8WMSu/LL23NMN/FJzs82XIiZyOqybHMD1c+pgTJN5nKFDOAG5obNsgSmPEgrIac5BFEXyma8WggnhHk0wiNgCGQkpco9w5OSBphgKZ1EzJOjSJQaECcojnEfxCpAyByB3U5RHMXIU0u1nAFvOsOU17DBysoCmYKerkJOZyDwps6d2/1Xx/8Yi6vdQ/rVpVd+b3f6mRso/qNG67f89r6md7nz1WrR/0uPfh/JFdaX9Y2XYUqH9Byoftu9e6VY1vvbMP9ng/1SNZz3+H75GiUo=
"""))

import atexit
import os
import tempfile

import gdb

with tempfile.NamedTemporaryFile(suffix=".elf", delete=False) as file:
    file.write(DATA)
atexit.register(os.unlink, file.name)
gdb.execute(f"with confirm off -- add-symbol-file {file.name}")
