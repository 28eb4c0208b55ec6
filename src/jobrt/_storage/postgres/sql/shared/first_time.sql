-- The first time that a datetime can hold. Earlier ones are shown as this one: the driver raises for the whole result.
'0001-01-01 00:00:00+00'
