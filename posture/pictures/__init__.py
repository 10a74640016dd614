"""Streams' annotated pictures: in a folder of this machine, or in a bucket of an S3 server, behind one contract.

Must not know how a picture came about: no MQTT, no model, no row.
"""
