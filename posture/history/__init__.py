"""What a farm has found: questions to the database about streams, days and frames, answered from minutes.

Must not know how rows came about, nor who asks: no MQTT, no picture, no page. Nothing is changed but by a deletion
that the operator asks for.
"""
