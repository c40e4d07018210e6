"""ROWS: the SQL. Every function takes a connection, and `now` where time matters; none sleeps, reads a clock or starts threads.

Transactions begin and end in `database.write()` and `database.read()` only.
"""
