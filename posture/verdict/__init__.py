"""From landmarks to Good or Bad, and from verdicts to the state of a stream.

Pure: no file, no network, no clock. The caller passes landmarks and time, so that stored landmarks can be judged
again.
"""
