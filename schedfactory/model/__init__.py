"""WORDS: plain values and the decisions about them. Opens nothing, waits for nothing, stores nothing."""
