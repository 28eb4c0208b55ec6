"""Python values to JSON and back, by their annotations. Nothing here knows of job classes.

::

    payload        values of one class <-> JSON text, with the path of a wrong field
    dispatch       annotation -> codec
    records · containers · unions · leaves      codecs by kind of annotation
    fields         the fields of a record         annotations   what an annotation means
    codecs         codecs, and their errors       json_text     JSON as text

Imports point down only. Of jobrt nothing but `errors` is used.
"""
