"""The whole path of a frame on one machine, for a first look: broker, cameras, analyzers, and a summary.

Starts the programs as a user would, by their scripts; must not reach into them.
"""
