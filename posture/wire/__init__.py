"""What camera and analyzer agree on: pictures with an identity, topics, and how both speak MQTT.

Must not know what is done with a picture on either side.
"""
