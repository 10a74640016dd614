"""Rows of a stream's frames in SQLite, PostgreSQL or Supabase, behind one contract.

Must not know how a row came about: no MQTT, no model, no picture.
"""
