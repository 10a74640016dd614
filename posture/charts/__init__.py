"""Drawings of what the history says, for reports and for the summary of a run. On light ground, fit for print.

Must not know where figures come from: no database, no settings.
"""
