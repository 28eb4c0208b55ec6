-- One number for the whole claim; (id, lease) names an attempt.
UPDATE jobrt_lease SET last = last + 1 RETURNING last;
