"""The ring's protocols in an exhaustive model of C11 release/acquire memory.

`machine` is the memory, `explore` walks every behaviour of a few threads over it, `litmus` are known answers for both. The
other modules write a protocol of `ring/core.h` once each, with its memory orders and its steps as parameters, so that a test
can weaken one of them.
"""
