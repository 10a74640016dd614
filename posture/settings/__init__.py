"""What an operator may set: the table of all settings, and how cluster.yaml and the environment are read.

Knows nothing of what the settings are for: it checks and hands out values. Programs take the part of
:class:`~posture.settings.table.Settings` that concerns them.
"""
