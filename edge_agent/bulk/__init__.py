"""Answers for whole files: ``edge-agent infer``.

``job`` runs chunks of rows through an engine, ``formats`` turns their answers into bytes and, at the end, into the file
that was asked for, ``journal`` makes the work survive a kill at any instant, ``progress`` shows it.
"""
