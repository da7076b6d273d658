"""The sides: the same work in each library, a file for each library and kind of work.

A builder takes the options of a case and returns a `Work`. It runs in a worker, so only the worker imports the library.
"""
