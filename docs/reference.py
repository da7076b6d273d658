"""Writes the reference of all public names as a web site: `python docs/reference.py FOLDER`."""

import sys
from pathlib import Path

import pdoc

from jaxnn import data

# pdoc looks names up in the module's dictionary; `jaxnn.data` imports some of them when they are first used.
vars(data).update({name: getattr(data, name) for name in data.__all__})

pdoc.render.configure(docformat="google", math=True, show_source=False)
pdoc.pdoc("jaxnn", output_directory=Path(sys.argv[1]))
