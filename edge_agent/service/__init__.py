"""The agent as a service: source, engine, sinks, drift, outbox, MQTT and updates in one process.

::

    loop.py       the main loop: samples, commands, the swap of engines between two inferences
    updating.py   the thread that fetches, tests and measures releases
    commands.py   what the controller may ask for
    releases.py   which release runs, which is wanted, the swap
    engines.py    a release directory made into a tested engine
    samples.py    requests for samples, sent in chunks
    telemetry.py  when it goes out, and through which door
    reporting.py  what goes out, made from what is known (pure)
    writer.py     small files, written beside the main loop
"""
