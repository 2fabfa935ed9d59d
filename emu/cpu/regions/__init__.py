"""Hot code folded into one function: the second stage after the threaded interpreter.

A region is a set of decoded blocks of one page that lead to each other. The handlers of their
micro-operations are compiled once more, with every operand known and the general registers in
machine registers. What comes out has the form of a handler and is put into the record where the
region begins, so that the interpreter enters it without a test.

A region does to the state exactly what the interpreter does, in the same order: it takes the same
budget at the same places, looks into the same caches, and leaves with the same state. So it is of
no consequence when a region is translated, or whether it ever is; that may follow the wall clock.
"""
