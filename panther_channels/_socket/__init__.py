"""One WebSocket as its hooks see it: what may be sent when, how it ends, and how slow it may be."""
