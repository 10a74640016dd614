"""KEDA's External Scaler: answers from memory, and keeps one balancer running.

The only package that knows gRPC. Must not know how a move is planned or made.
"""
