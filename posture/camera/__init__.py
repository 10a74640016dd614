"""The camera's program: pictures from a source, kept in a spool until the analyzer has confirmed them.

Must not know how pictures are analyzed; what both sides agree on is in wire.
"""
