"""Delivery: drives an ESP's flows over a transport, with retries, concurrency and an honest account."""
