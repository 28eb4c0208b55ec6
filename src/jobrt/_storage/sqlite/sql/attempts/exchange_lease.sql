-- One number for the whole claim; (id, lease) names an attempt. It is at least the time in microseconds, so that it is
-- new after a restore of older data too, and it grows even while the clock stands or was set back.
UPDATE jobrt_lease SET last = max(last + 1, :now) RETURNING last;
