"""What must be right before a farm is built and placed: everything is looked at, then all findings are listed.

Nothing is changed here. A finding says what is wrong and which command mends it; a warning lets the work go on.
"""
