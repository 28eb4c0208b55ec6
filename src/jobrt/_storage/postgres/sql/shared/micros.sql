-- A time as microseconds since 1970. Times that a datetime cannot hold, infinity among them, are the last or first.
(extract(epoch from greatest(least(c.moment, {last_time}), {first_time})) * 1000000)::bigint
