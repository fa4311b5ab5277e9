"""The controller: merges what the fleet reports, decides, retrains and rolls out.

Invariants, which code and tests follow:

1. All state is in the database. A controller that was killed at any point goes on from its rows.
2. A message is acknowledged to the broker only after the commit that holds it; one that arrives twice counts once.
3. Decisions are pure functions of rows (``incidents.py``, ``rollout.py``); I/O, clocks and threads stand around them.
4. Every state of an incident or a rollout has a time limit: none is left without a way on.
5. One thread folds windows into evidence and takes all decisions; another one takes messages in.
"""
