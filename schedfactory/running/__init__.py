"""THREADS: who waits, who works, and when the database is asked. No SQL is written here.

What a dispatcher does in one round is a plain method, `Dispatcher.round(now)`: the threads only call it.
"""
