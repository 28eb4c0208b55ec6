-- When an attempt began, by its outcome `o`; see `Outcome.began`. A negative number: as the row says.
least(case when o.began >= 0 then timestamptz 'epoch' + o.began * interval '1 microsecond' else j.started_at end,
      statement_timestamp())
