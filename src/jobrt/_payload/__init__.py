"""Python values to JSON and back, by their annotations. Nothing here knows of job classes.

::

    payload      a record's fields <-> JSON text, with the path of a wrong field
    shapes       annotation -> codec
    records · containers · unions · leaves      codecs by kind of annotation
    fields       the fields of a record         annotations   what an annotation means
    codecs       what a codec is, and how it reports an error
"""
