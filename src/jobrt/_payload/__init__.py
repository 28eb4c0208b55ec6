"""Conversion of Python values to JSON and back, by their annotations, without job classes.

::

    payload        values of a class <-> JSON text, with the path of an invalid field
    dispatch       annotation -> codec
    records · containers · unions · leaves      codecs by kind of annotation
    fields         fields of a record             annotations   meaning of annotations
    codecs         codecs and their errors        json_text     JSON as text

Imports point down only. From jobrt, only `errors` is used.
"""
