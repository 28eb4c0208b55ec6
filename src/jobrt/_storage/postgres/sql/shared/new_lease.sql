-- A number for a claim that no claim had before, after a restore of older data either: the database's clock in
-- milliseconds, then 20 bits of a sequence. The clock differs from all claims before the restore, even if the sequence
-- was set back. The sequence differs within a millisecond, and while the clock is wrong.
(select ((extract(epoch from clock_timestamp()) * 1000)::bigint << 20) | (nextval('{literal}.lease') & 1048575))
