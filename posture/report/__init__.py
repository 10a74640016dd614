"""The program report.py: a day or a week as a file for mail or archive, HTML and PNG.

Must not know how rows came about, nor change anything in the database.
"""
