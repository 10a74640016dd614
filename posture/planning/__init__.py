"""Which stream runs on which node: first placement, offloading, restarts, failovers, and what is learned from them.

Pure: plain data in, a plan out. No clock, no input or output; randomness is passed in. Must not know Kubernetes or
Prometheus: the balancer, the patcher and the simulator feed it alike.
"""
