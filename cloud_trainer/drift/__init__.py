"""``cloud-trainer drift``: a table of data against a reference, and a report that says what moved.

In the order of the work: ``tables`` (CSV), ``columnar`` (NPZ, Parquet) and ``opening`` read files in chunks, ``cells``
and ``times`` turn cells into numbers, ``scalars`` chooses what is watched, ``ordered`` sorts by time, ``reference``
fits, saves and loads, ``history`` and ``watching`` run the detector, ``findings`` draws the conclusions, ``words`` says
them, and ``svg``, ``plots``, ``timeline`` and ``report`` show them. Needs numpy only.
"""
