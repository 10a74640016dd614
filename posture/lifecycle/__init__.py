"""A farm goes up, is upgraded, and goes down: checks first, then steps, each of which can be undone.

The only package that knows several programs at once. Scripts call it; nothing imports it but them.
"""
