"""ROWS: the SQL. The moves (enqueue, claim, finish, …) take a connection, and `now` where time matters; none waits.

Their transactions begin and end in `database.write()` and `database.read()` only. What opens, waits for and looks after
the file stands in `database`, `opening`, `sqlite`, `checkpoint` and `locks`. No threads are started here.
"""
