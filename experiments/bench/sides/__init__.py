"""The sides: the same work in each library's own words, a file for each library and kind of work.

A builder gets a case's options and returns the work, a function without arguments that returns when all is done. It
runs in a worker, so only there is the library imported.
"""
