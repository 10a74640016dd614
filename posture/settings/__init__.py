"""What an operator may set: the table of all settings, and how cluster.yaml and the environment are read.

Must not know how settings are used: it checks values and hands them out. Each program takes its section of
:class:`~posture.settings.table.Settings`.
"""
