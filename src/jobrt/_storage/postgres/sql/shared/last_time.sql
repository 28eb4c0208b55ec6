-- The last time that a datetime can hold. Later ones are shown as this one: the driver raises for the whole result.
'9999-12-31 23:59:59.999999+00'
