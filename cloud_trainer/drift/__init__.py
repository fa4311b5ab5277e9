"""``cloud-trainer drift``: a table of data against a reference, and a report that says what moved.

In the order of the work: ``tables`` (CSV), ``columnar`` (NPZ, Parquet) and ``opening`` read files in pieces, ``cells``
and ``times`` turn cells into numbers, ``scalars`` chooses what is watched, ``ordered`` sorts by time, ``reference``
fits, saves and loads, ``history`` and ``watching`` run the detector, ``findings`` and ``limits`` draw the conclusions,
``words`` says them, and ``svg``, ``plots``, ``timeline``, ``parts``, ``style`` and ``report`` show them. Needs numpy
and msgspec only.
"""
