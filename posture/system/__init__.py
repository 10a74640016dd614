"""This machine: child processes, files, the terminal, back-off, HTTP probes.

Must not know what a farm is: nothing here names a stream, a node or a setting.
"""
